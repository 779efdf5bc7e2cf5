"""Experts: frozen networks, one per task, whose outputs and features a student imitates."""

from rllib_distill.experts.expert import Expert
from rllib_distill.experts.expert_bank import ExpertBank
from rllib_distill.experts.expert_info import ExpertInfo

__all__ = ["Expert", "ExpertBank", "ExpertInfo"]
