"""Recorded runs, and pages of results that are made from them."""

from rllib_distill.results.page import ResultsPage, Section, read_page
from rllib_distill.results.runs import RecordedRun

__all__ = ["RecordedRun", "ResultsPage", "Section", "read_page"]
