"""Losses as pure functions of tensors: one value per sample, no reduction, no state, torch only.

Where a shape is `(B, A)` or `(B,)`, B may be several axes: those of a batch are `(N, T, B)`.
The learner reduces. The papers sum over the minibatch; the mean, which the learners here take, does not
tie the step size to the batch size.
"""

from rllib_distill.losses.actor_mimic import feature_regression_loss, policy_regression_loss
from rllib_distill.losses.distral import (
    distilled_policy_loss,
    regularised_rewards,
    soft_q_targets,
    soft_value,
    two_column_logits,
)
from rllib_distill.losses.expected_entropy import (
    expected_cross_entropy_loss,
    expert_log_likelihood,
    score_function_loss,
)
from rllib_distill.losses.policy_distillation import (
    DISTILLATION_LOSSES,
    DistillationLoss,
    distillation_kl_loss,
    distillation_mse_loss,
    distillation_nll_loss,
)
from rllib_distill.losses.td_loss import double_q_target, q_learning_target, td_loss

__all__ = [
    "DISTILLATION_LOSSES",
    "DistillationLoss",
    "distillation_kl_loss",
    "distillation_mse_loss",
    "distillation_nll_loss",
    "distilled_policy_loss",
    "double_q_target",
    "expected_cross_entropy_loss",
    "expert_log_likelihood",
    "feature_regression_loss",
    "policy_regression_loss",
    "q_learning_target",
    "regularised_rewards",
    "score_function_loss",
    "soft_q_targets",
    "soft_value",
    "td_loss",
    "two_column_logits",
]
