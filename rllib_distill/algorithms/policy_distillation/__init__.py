"""Policy Distillation: experts become one student, of one expert's size or much smaller."""

from rllib_distill.algorithms.policy_distillation.policy_distillation import PolicyDistillation
from rllib_distill.algorithms.policy_distillation.policy_distillation_config import PolicyDistillationConfig

__all__ = ["PolicyDistillation", "PolicyDistillationConfig"]
