"""Scores of trained policies beside random play and experts: playing, tables, files, pictures."""

from rllib_distill.evaluation.report import Report, make_report
from rllib_distill.evaluation.score_board import ScoreBoard
from rllib_distill.evaluation.scores import play

__all__ = ["Report", "ScoreBoard", "make_report", "play"]
