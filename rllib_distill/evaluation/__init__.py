"""Evaluation: plays a checkpoint's policies, experts and random actions, and reports their scores."""

from rllib_distill.evaluation.play import play
from rllib_distill.evaluation.report import Report, make_report
from rllib_distill.evaluation.scores import ScoreBoard

__all__ = ["Report", "ScoreBoard", "make_report", "play"]
