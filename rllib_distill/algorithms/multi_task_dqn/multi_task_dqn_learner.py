"""Q-learning on every module."""

from typing import Any

import torch

from rllib_distill.core.learner import Loss
from rllib_distill.core.replay import ReplayLearner
from rllib_distill.core.rl_module import update_target_networks
from rllib_distill.losses import double_q_target, q_learning_target, td_loss
from rllib_distill.networks import NetworkOutputs
from rllib_distill.replay import Batch


class MultiTaskDQNLearner(ReplayLearner):
    """The loss of each module is the mean over its rows; modules share nothing, so the losses are summed."""

    columns = ("observations", "next_observations", "actions", "rewards", "discounts")

    def buffer_options(self) -> dict[str, Any]:
        """Returns of several steps are put together where rows are drawn."""
        return {"n_step": self.config.n_step, "gamma": self.config.gamma}

    def loss_of_module(self, module_id: str, config: Any, batch: Batch, outputs: NetworkOutputs) -> Loss:
        """Mean TD loss of the module's rows; bootstraps through truncations, not through terminations."""
        per_row = self.td_loss(module_id, config, batch, outputs.outputs)
        return Loss.of_rows(batch, per_row, self.td_components(batch, per_row, outputs.outputs))

    def td_loss(self, module_id: str, config: Any, batch: Batch, q: torch.Tensor) -> torch.Tensor:
        """TD loss of every row of a module with a target network and its Q-values `(N, T, B, A)`."""
        targets = self._targets(self.module[module_id], config, batch)
        return td_loss(q, batch.columns["actions"], targets, huber_delta=config.huber_delta)

    def td_components(self, batch: Batch, per_row: torch.Tensor, q: torch.Tensor) -> dict[str, torch.Tensor]:
        """What the metrics say of Q-learning."""
        if not self.logs_minibatch:
            return {}
        legal = batch.legal_of(q)
        mean = q.mean(-1) if legal is None else (q * legal).sum(-1) / legal.sum(-1)
        return {"td_loss": per_row, "q_mean": mean}

    @torch.no_grad()
    def _targets(self, module: Any, config: Any, batch: Batch) -> torch.Tensor:
        columns, tasks = batch.columns, batch.tasks
        rewards, discounts, following = (columns[n] for n in ("rewards", "discounts", "next_observations"))
        q_target = module.target_network(following, tasks).outputs
        legal = batch.legal_of(q_target)
        if not config.double_q:
            return q_learning_target(rewards, discounts, q_target, legal_actions=legal)
        q_online = module.network(following, tasks).outputs
        return double_q_target(rewards, discounts, q_target, q_online, legal_actions=legal)

    def after_minibatch(self) -> None:
        """Moves the target networks every `target_network_update_freq` minibatches."""
        if self.num_updates % self.config.target_network_update_freq == 0:
            update_target_networks(self.module.values(), self.config.target_update_share)
