"""Experts: frozen networks, one per task, whose outputs and features a student imitates."""

from rllib_distill.experts.expert import Expert, ExpertInfo
from rllib_distill.experts.expert_bank import ExpertBank

__all__ = ["Expert", "ExpertBank", "ExpertInfo"]
