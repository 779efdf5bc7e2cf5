"""Q-learning on every module."""

from typing import Any

import torch
from ray.rllib.core.columns import Columns

from rllib_distill.core.replay_learner import MultiTaskLearner
from rllib_distill.core.rl_module import update_target_networks
from rllib_distill.losses import double_q_target, q_learning_target, td_loss
from rllib_distill.replay.fragment import LEGAL_ACTIONS, TASKS


class MultiTaskDQNLearner(MultiTaskLearner):
    """The loss of each module is the mean over its rows; modules share nothing, so the losses are summed."""

    columns = ("observations", "next_observations", "actions", "rewards", "discounts")

    def replay_options(self) -> dict[str, Any]:
        """Returns of several steps are put together where rows are drawn."""
        return {"n_step": self.config.n_step, "gamma": self.config.gamma}

    def compute_loss_for_module(
        self, *, module_id: str, config: Any, batch: dict[str, Any], fwd_out: dict[str, Any]
    ) -> torch.Tensor:
        """Mean TD loss of the module's rows; bootstraps through truncations, not through terminations."""
        return self.td_loss(module_id, config, batch, fwd_out[Columns.ACTION_DIST_INPUTS]).mean()

    def td_loss(self, module_id: str, config: Any, batch: dict[str, Any], q: torch.Tensor) -> torch.Tensor:
        """TD loss of every row, `(N,)`, of a module with a target network and its Q-values `(N, A)`."""
        targets = self._targets(self.module[module_id], config, batch)
        per_row = td_loss(q, batch["actions"], targets, huber_delta=config.huber_delta)
        if self.logs_minibatch:
            self.keep_task_metric(module_id, "td_loss", batch[TASKS], per_row)
            self.keep_task_metric(
                module_id, "q_mean", batch[TASKS], _mean_over_legal(q, batch[LEGAL_ACTIONS])
            )
        return per_row

    @torch.no_grad()
    def _targets(self, module: Any, config: Any, batch: dict[str, Any]) -> torch.Tensor:
        next_batch = {Columns.OBS: batch[Columns.NEXT_OBS], TASKS: batch[TASKS]}
        q_target = module.forward_target(next_batch)
        legal = batch[LEGAL_ACTIONS]
        if not config.double_q:
            return q_learning_target(batch["rewards"], batch["discounts"], q_target, legal_actions=legal)
        q_online = module.network(batch[Columns.NEXT_OBS], batch[TASKS])[0]
        return double_q_target(batch["rewards"], batch["discounts"], q_target, q_online, legal_actions=legal)

    def after_minibatch(self) -> None:
        """Moves the target networks every `target_network_update_freq` minibatches."""
        if self.num_updates % self.config.target_network_update_freq == 0:
            update_target_networks(self.module.values(), self.config.target_update_share)


def _mean_over_legal(q: torch.Tensor, legal_actions: torch.Tensor | None) -> torch.Tensor:
    return q.mean(-1) if legal_actions is None else (q * legal_actions).sum(-1) / legal_actions.sum(-1)
