"""Soft Q-learning around a distilled policy, alternated with its distillation."""

from typing import Any

import torch
from torch import Tensor

from rllib_distill.algorithms.distral.task_policies_config import DISTILLED
from rllib_distill.algorithms.distral.task_policies_learner import (
    TaskPoliciesLearner,
    mean_of_rows,
    next_values,
    taken,
)
from rllib_distill.algorithms.soft_q_distral.soft_q_distral import is_tabular, states_of, visit_weights
from rllib_distill.core.replay_learner import load_shard, save_shard
from rllib_distill.core.rl_module import update_target_networks
from rllib_distill.losses import distilled_policy_loss, soft_q_targets, soft_value
from rllib_distill.networks import TaskPolicyOutputs
from rllib_distill.replay.batch import Trajectories
from rllib_distill.replay.replay_buffer import SequenceReplay


class SoftQLearner(TaskPoliciesLearner):
    """A minibatch makes two steps: of the Q-functions, then, with the new ones, of the distilled policy."""

    memory: SequenceReplay

    def build(self) -> None:
        """As any learner's; target networks act together as the networks do."""
        super().build()
        self._targets = self.module.tie_target_networks()

    def build_memory(self, num_sources: int) -> None:
        """This rank's shard of the replay memory."""
        config = self.config
        self.memory = SequenceReplay(
            tuple(config.tasks),
            capacity=-(-int(config.replay_capacity) // max(1, config.num_learners)),
            spaces=config.shared_spaces,
            device=self._device,
            seed=None if config.seed is None else config.seed + self._learner_index,
        )

    def draw_minibatch(self) -> Trajectories:
        """Sequences of every task."""
        return self.memory.draw(self.config.sequences_per_task)

    def _uncompiled_update(self, batch: Trajectories, **_: Any) -> tuple[Any, Any, Any]:
        states = self._states(batch) if is_tabular(self.config) else None
        losses = self._q_losses(batch, states)
        self.take_step(losses, module_ids=batch.tasks)
        if self.config.distil:
            distillation = {DISTILLED: self._distillation_loss(batch, states)}
            self.take_step(distillation, module_ids=[DISTILLED])
            losses = {**losses, **distillation}
        return None, losses, {}

    def _q_losses(self, batch: Trajectories, states: Tensor | None) -> dict[str, Tensor]:
        """Task -> half the mean square of its soft Bellman error; of tables, the sum over visited entries."""
        outputs = self.module.forward_train(batch)
        q = taken(outputs.task_outputs[:, :-1], batch.actions)
        per_row = 0.5 * (q - self._q_targets(batch)).square()
        if self.logs_minibatch:
            self.keep_metrics(batch, td_loss=per_row, q_mean=q)
        if states is not None:
            entries = states * outputs.logits.shape[-1] + batch.actions
            weights = torch.stack(
                [
                    visit_weights(*of_task, self.config.lr)
                    for of_task in zip(entries, batch.valid, strict=True)
                ]
            )
            of_tasks = (weights * per_row).flatten(1).sum(1)
        else:
            of_tasks = mean_of_rows(per_row, batch.valid)
        return dict(zip(batch.tasks, of_tasks.unbind(), strict=True))

    @torch.no_grad()
    def _q_targets(self, batch: Trajectories) -> Tensor:
        """(3) and (4) over `n_step` steps, `(N, T, B)`; truncated episodes are bootstrapped from."""
        outputs = self._targets(batch.observations, batch.tasks, batch.state, batch.begins)
        values = self._soft_values(outputs)
        final = self.module.at_final_observations(batch, outputs, self._targets)
        final_values = None if final is None else self._soft_values(final)[:, 0]
        following = next_values(batch, values, final_values)
        goes_on = ~(batch.terminations | batch.truncations) & batch.valid
        return soft_q_targets(
            batch.rewards.movedim(1, 0),
            (self.config.gamma * ~batch.terminations).movedim(1, 0),
            following.movedim(1, 0),
            taken(outputs.task_outputs[:, :-1], batch.actions).movedim(1, 0),
            continues=goes_on.movedim(1, 0),
            n_step=self.config.n_step,
        ).movedim(0, 1)

    def _soft_values(self, outputs: TaskPolicyOutputs) -> Tensor:
        """Equation (3); without a distilled policy, around the uniform one."""
        q, h = outputs.task_outputs, outputs.distilled_logits
        assert q is not None  # every task has a network
        h = torch.zeros_like(q) if h is None else h
        return soft_value(h, q, alpha=self.alpha, beta=self.beta)

    def _distillation_loss(self, batch: Trajectories, states: Tensor | None) -> Tensor:
        """Equation (5): a mean over each task's rows, summed over tasks; of tables, over visited states."""
        outputs = self.module.forward_train(batch)
        per_row = distilled_policy_loss(
            outputs.logits[:, :-1], outputs.distilled_logits[:, :-1], alpha=self.alpha, beta=self.beta
        )
        if states is not None:
            return (visit_weights(states, batch.valid, self.config.lr) * per_row).sum()
        return mean_of_rows(per_row, batch.valid).sum()

    def _states(self, batch: Trajectories) -> Tensor:
        """Numbers `(N, T, B)` of one-hot states, which both steps of a table need."""
        return states_of(batch.observations[:, :-1].flatten(3), batch.valid)

    def after_minibatch(self) -> None:
        """Copies the networks every `target_network_update_freq` minibatches."""
        if self.num_updates % self.config.target_network_update_freq == 0:
            update_target_networks(self.module.values(), 1.0)

    def save_memory(self, folder: Any) -> None:
        """Writes this rank's shard of the replay memory."""
        save_shard(self.memory, folder, self._learner_index)

    def load_memory(self, folder: Any) -> None:
        """Reads this rank's shard."""
        load_shard(self.memory, folder, self._learner_index)
