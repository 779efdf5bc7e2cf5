"""Policy regression and feature regression on the student."""

from typing import Any

import torch
from ray.rllib.core.columns import Columns

from rllib_distill.algorithms.common.minibatch import EXPERT_FEATURES, EXPERT_OUTPUTS, LEGAL_ACTIONS
from rllib_distill.algorithms.common.multi_task_learner import MultiTaskLearner
from rllib_distill.algorithms.common.network_rl_module import FEATURES
from rllib_distill.losses import feature_regression_loss, policy_regression_loss


class ActorMimicLearner(MultiTaskLearner):
    """L = L_policy + beta L_feature, averaged over the minibatch, in which all tasks have equal shares.

    The official code sums over its 8 rows per game; the mean does not tie the step size to the batch size.
    """

    def columns_of(self, module_id: str) -> tuple[str, ...]:
        """States and their labels; actions and rewards play no part."""
        return ("observations", *self.config.label_columns)

    def compute_loss_for_module(
        self, *, module_id: str, config: Any, batch: dict[str, Any], fwd_out: dict[str, Any]
    ) -> torch.Tensor:
        """Mean over all rows of the minibatch."""
        expert_q, logits, legal = (
            batch[EXPERT_OUTPUTS],
            fwd_out[Columns.ACTION_DIST_INPUTS],
            batch[LEGAL_ACTIONS],
        )
        policy_loss = policy_regression_loss(expert_q, logits, tau=config.tau, legal_actions=legal)
        loss = policy_loss.mean()
        if config.beta > 0:
            feature_loss = self._feature_loss(module_id, fwd_out[FEATURES], batch[EXPERT_FEATURES])
            # beta times the squared norm, as the paper prints it; the official code takes half of that.
            loss = loss + config.beta * feature_loss.mean()
            if self.logs_minibatch:
                self.keep_task_metric(module_id, "feature_regression_loss", feature_loss)
        if self.logs_minibatch:
            self.keep_task_metric(module_id, "policy_regression_loss", policy_loss)
            agrees = _greedy(expert_q, legal) == _greedy(logits, legal)
            self.keep_task_metric(module_id, "greedy_agreement", agrees)
        return loss

    def _feature_loss(
        self, module_id: str, features: torch.Tensor, expert_features: list[torch.Tensor]
    ) -> torch.Tensor:
        module = self.module[module_id]
        predicted = module.predict_expert_features(features, self.tasks_of(module_id))
        losses = map(feature_regression_loss, predicted, expert_features)
        return torch.cat(list(losses))


def _greedy(values: torch.Tensor, legal_actions: torch.Tensor | None) -> torch.Tensor:
    if legal_actions is not None:
        values = values.detach().masked_fill(~legal_actions, -torch.inf)
    return values.argmax(-1)
