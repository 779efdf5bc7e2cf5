"""Policy Distillation: experts become one student, of one expert's size or much smaller."""

from rllib_distill.algorithms.policy_distillation.policy_distillation import (
    PolicyDistillation,
    PolicyDistillationConfig,
)

__all__ = ["PolicyDistillation", "PolicyDistillationConfig"]
