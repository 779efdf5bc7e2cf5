"""Soft Q-learning around a distilled policy, alternated with its distillation."""

from typing import Any

import torch
from ray.rllib.utils.metrics import ALL_MODULES
from torch import Tensor
from typing_extensions import override

from rllib_distill.algorithms.distral.distral_learner import TaskPoliciesMixin
from rllib_distill.algorithms.distral.distral_rl_module import DistralRLModule
from rllib_distill.algorithms.soft_q_distral.tabular import is_tabular, states_of, visit_weights
from rllib_distill.core.replay import ReplayLearner
from rllib_distill.core.rl_module import TargetNetworkRLModule, update_target_networks
from rllib_distill.core.trajectories import at_final_observations, next_values, taken
from rllib_distill.env_runner.task_envs import DISTILLED
from rllib_distill.losses import distilled_policy_loss, soft_q_targets, soft_value
from rllib_distill.networks import TaskPolicyOutputs
from rllib_distill.replay import Batch, Minibatches, OneTaskAtATime


class SoftQRLModule(DistralRLModule, TargetNetworkRLModule):
    """A task's soft Q-function. Q-values start at zero: its policy is the distilled one's."""


class SoftQLearner(TaskPoliciesMixin, ReplayLearner):
    """Makes two steps per minibatch: on the Q-functions and then, given these, on the distilled policy."""

    columns = ("observations", "rewards")

    @override
    def build(self) -> None:
        """Ties the target networks together as the networks are."""
        super().build()
        self._targets = self.module.tie_target_networks()

    @override
    def make_minibatches(self) -> dict[str, Minibatches | OneTaskAtATime]:
        """Makes what draws sequences of all tasks, for all modules together."""
        spaces, tasks = self.config.shared_spaces, tuple(self.config.tasks)
        return {ALL_MODULES: self.minibatches_of_tasks(spaces, tasks, len(tasks), self.columns)}

    @override
    def draw_minibatch(self) -> Batch:  # type: ignore[override]  # one for all modules
        """Draws sequences of every task."""
        return self.minibatches[ALL_MODULES].draw()

    @override
    def _uncompiled_update(self, batch: Batch, **_: Any) -> tuple[Any, Any, Any]:
        states = self._states(batch) if is_tabular(self.config) else None
        losses = self._q_losses(batch, states)
        self.take_step(losses, module_ids=batch.tasks)
        if self.config.distil:
            distillation = {DISTILLED: self._distillation_loss(batch, states)}
            self.take_step(distillation, module_ids=[DISTILLED])
            losses = {**losses, **distillation}
        return None, losses, {}

    def _q_losses(self, batch: Batch, states: Tensor | None) -> dict[str, Tensor]:
        """Task -> half the mean square of its soft Bellman error; for tables, a sum over visited entries."""
        outputs = self.module.forward_train(batch)
        actions, valid = batch.columns["actions"], batch.columns["valid"]
        q = taken(outputs.task_outputs[:, :-1], actions)
        per_row = 0.5 * (q - self._q_targets(batch)).square()
        self.keep_metrics(ALL_MODULES, batch, {"td_loss": per_row, "q_mean": q})
        if states is not None:
            entries = states * outputs.logits.shape[-1] + actions
            weights = torch.stack(
                [visit_weights(*of_task, self.config.lr) for of_task in zip(entries, valid, strict=True)]
            )
            of_tasks = (weights * per_row).flatten(1).sum(1)
        else:
            of_tasks = batch.mean(per_row)
        return dict(zip(batch.tasks, of_tasks.unbind(), strict=True))

    @torch.no_grad()
    def _q_targets(self, batch: Batch) -> Tensor:
        """Targets `(N, T, B)` by (3) and (4) over `n_step` steps; they bootstrap at truncations."""
        columns = batch.columns
        outputs = self._targets(batch.observations, batch.tasks, batch.state, batch.is_first)
        values = self._soft_values(outputs)
        final = at_final_observations(self._targets, batch, outputs.states)
        final_values = None if final is None else self._soft_values(final)[:, 0]
        following = next_values(batch, values, final_values)
        return soft_q_targets(
            columns["rewards"].movedim(1, 0),
            (self.config.gamma * ~columns["terminations"]).movedim(1, 0),
            following.movedim(1, 0),
            taken(outputs.task_outputs[:, :-1], columns["actions"]).movedim(1, 0),
            continues=batch.continues.movedim(1, 0),
            n_step=self.config.n_step,
        ).movedim(0, 1)

    def _soft_values(self, outputs: TaskPolicyOutputs) -> Tensor:
        """Equation (3); without a distilled policy, around the uniform one."""
        q, h = outputs.task_outputs, outputs.distilled_logits
        assert q is not None  # every task has a network
        h = torch.zeros_like(q) if h is None else h
        return soft_value(h, q, alpha=self.alpha, beta=self.beta)

    def _distillation_loss(self, batch: Batch, states: Tensor | None) -> Tensor:
        """Equation (5), averaged over each task's rows and summed over tasks; for tables, over visits."""
        outputs = self.module.forward_train(batch)
        per_row = distilled_policy_loss(
            outputs.logits[:, :-1], outputs.distilled_logits[:, :-1], alpha=self.alpha, beta=self.beta
        )
        if states is not None:
            return (visit_weights(states, batch.columns["valid"], self.config.lr) * per_row).sum()
        return batch.mean(per_row).sum()

    def _states(self, batch: Batch) -> Tensor:
        """Numbers `(N, T, B)` of one-hot states, which both steps of a table need."""
        return states_of(batch.observations[:, :-1].flatten(3), batch.columns["valid"])

    @override
    def after_minibatch(self) -> None:
        """Copies the networks every `target_network_update_freq` minibatches."""
        if self.num_updates % self.config.target_network_update_freq == 0:
            update_target_networks(self.module.values(), 1.0)
