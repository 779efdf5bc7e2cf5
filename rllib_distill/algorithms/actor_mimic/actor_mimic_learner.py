"""Policy regression and feature regression on the student."""

from typing import Any

import torch
from ray.rllib.core.columns import Columns

from rllib_distill.core.experts import greedy_agreement
from rllib_distill.core.replay_learner import MultiTaskLearner
from rllib_distill.core.rl_module import FEATURES
from rllib_distill.losses import feature_regression_loss, policy_regression_loss
from rllib_distill.replay.fragment import EXPERT_FEATURES, EXPERT_OUTPUTS, LEGAL_ACTIONS, TASKS


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
        logits, tasks = fwd_out[Columns.ACTION_DIST_INPUTS], batch[TASKS]
        policy_loss = policy_regression_loss(
            batch[EXPERT_OUTPUTS], logits, tau=self.tau_of_rows(batch), legal_actions=batch[LEGAL_ACTIONS]
        )
        loss = policy_loss.mean()
        if config.beta > 0:
            feature_loss = self._feature_loss(module_id, batch, fwd_out[FEATURES])
            # beta times the squared norm, as the paper prints it; the official code takes half of that.
            loss = loss + config.beta * feature_loss.mean()
            if self.logs_minibatch:
                self.keep_task_metric(module_id, "feature_regression_loss", tasks, feature_loss)
        if self.logs_minibatch:
            self.keep_task_metric(module_id, "policy_regression_loss", tasks, policy_loss)
            agrees = greedy_agreement(batch, logits)
            self.keep_task_metric(module_id, "greedy_agreement", tasks, agrees)
        return loss

    def _feature_loss(self, module_id: str, batch: dict[str, Any], features: torch.Tensor) -> torch.Tensor:
        predicted = self.module[module_id].predict_expert_features(features, batch[TASKS])
        losses = map(feature_regression_loss, predicted, batch[EXPERT_FEATURES])
        return torch.cat(list(losses))
