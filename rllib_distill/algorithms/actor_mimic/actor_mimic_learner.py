"""Policy regression and feature regression on the student."""

from typing import Any

import torch

from rllib_distill.core.experts import greedy_agreement
from rllib_distill.core.learner import Loss
from rllib_distill.core.replay import ReplayLearner
from rllib_distill.losses import feature_regression_loss, policy_regression_loss
from rllib_distill.networks import NetworkOutputs
from rllib_distill.replay import Batch
from rllib_distill.replay.fragment import EXPERT_FEATURES, EXPERT_OUTPUTS


class ActorMimicLearner(ReplayLearner):
    """L = L_policy + beta L_feature, averaged over the minibatch, in which all tasks have equal shares.

    The official code sums over its 8 rows per game; the mean does not tie the step size to the batch size.
    """

    def columns_of(self, module_id: str) -> tuple[str, ...]:
        """States and their labels; actions and rewards play no part."""
        return ("observations", *self.config.label_columns)

    def loss_of_module(self, module_id: str, config: Any, batch: Batch, outputs: NetworkOutputs) -> Loss:
        """Mean over all rows of the minibatch."""
        steps = batch.shape[1]
        logits = outputs.outputs[:, :steps]
        policy_loss = policy_regression_loss(
            batch.columns[EXPERT_OUTPUTS],
            logits,
            tau=batch.per_row([config.tau_of(task) for task in batch.tasks]),
            legal_actions=batch.legal_of(logits),
        )
        per_row, components = policy_loss, {"policy_regression_loss": policy_loss}
        if config.beta > 0:
            feature_loss = self._feature_loss(module_id, batch, outputs.features[:, :steps])
            # beta times the squared norm, as the paper prints it; the official code takes half of that.
            per_row = per_row + config.beta * feature_loss
            components["feature_regression_loss"] = feature_loss
        if self.logs_minibatch:
            components["greedy_agreement"] = greedy_agreement(batch, logits)
        return Loss.of_rows(batch, per_row, components)

    def _feature_loss(self, module_id: str, batch: Batch, features: torch.Tensor) -> torch.Tensor:
        predicted = self.module[module_id].predict_expert_features(features, batch.tasks)
        losses = map(feature_regression_loss, predicted, batch.columns[EXPERT_FEATURES])
        return torch.stack(list(losses))
