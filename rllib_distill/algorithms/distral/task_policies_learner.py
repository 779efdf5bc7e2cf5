"""What learners of task policies share: coefficients, a head start, returns of trajectories."""

from typing import Any

import torch
from ray.rllib.algorithms.impala.torch.vtrace_torch_v2 import vtrace_torch
from ray.rllib.utils.metrics import ALL_MODULES
from torch import Tensor

from rllib_distill.algorithms.distral.task_policies_config import read_distilled_policy, start_from
from rllib_distill.core.learner import ColumnarLearner
from rllib_distill.replay.batch import Trajectories


def next_values(batch: Trajectories, values: Tensor, final_values: Tensor | None) -> Tensor:
    """The value of what follows each row.

    Args:
        batch: The trajectories.
        values: V of all observations, `(N, T + 1, B)`.
        final_values: V of the last observations of truncated episodes, `(N, K)`, or None: there are none.

    Returns:
        `(N, T, B)`; where an episode ended in a terminal state, of no meaning.
    """
    following = values[:, 1:]
    if final_values is None:
        return following
    following = following.flatten(1).clone()
    tasks, k = batch.final_valid.nonzero(as_tuple=True)
    following[tasks, batch.final_rows[tasks, k]] = final_values[tasks, k]
    return following.view_as(batch.rewards)


def vtrace(
    batch: Trajectories,
    log_probs: Tensor,
    rewards: Tensor,
    values: Tensor,
    final_values: Tensor | None,
    *,
    gamma: float,
    clip_rho_threshold: float,
    clip_pg_rho_threshold: float,
) -> tuple[Tensor, Tensor]:
    """Targets of the value functions and advantages of the actions (Espeholt et al., 2018).

    Args:
        batch: The trajectories.
        log_probs: log pi_i(a|s) of the policies that learn, `(N, T, B)`.
        rewards: `(N, T, B)`.
        values: V of all observations, `(N, T + 1, B)`.
        final_values: As in `next_values`.
        gamma: Discount factor.
        clip_rho_threshold: Of the importance weights in the targets.
        clip_pg_rho_threshold: Of those in the advantages.

    Returns:
        Both `(N, T, B)`, without gradient; rows that are no transitions have none that mean anything.
    """
    assert batch.behaviour_log_probs is not None  # policy actors record them
    with torch.no_grad():
        truncated = batch.truncations & ~batch.terminations
        following = next_values(batch, values, final_values)
        # An episode's end cuts the recursion; what a truncated one leaves out joins the last reward.
        rewards = torch.where(truncated, rewards + gamma * following, rewards)
        goes_on = ~(batch.truncations | batch.terminations) & batch.valid
        targets, advantages = vtrace_torch(
            target_action_log_probs=_time_first(log_probs),
            behaviour_action_log_probs=_time_first(batch.behaviour_log_probs),
            discounts=_time_first(gamma * goes_on.float()),
            rewards=_time_first(rewards),
            values=_time_first(values[:, :-1]),
            bootstrap_values=values[:, -1].flatten(),
            clip_rho_threshold=clip_rho_threshold,
            clip_pg_rho_threshold=clip_pg_rho_threshold,
        )
    shape = batch.rewards.movedim(1, 0).shape
    return targets.view(shape).movedim(0, 1), advantages.view(shape).movedim(0, 1)


def _time_first(values: Tensor) -> Tensor:
    """`(N, T, B)` to `(T, N * B)`."""
    return values.movedim(1, 0).flatten(1)


class TaskPoliciesLearner(ColumnarLearner):
    """Learns from trajectories of all tasks; `alpha` and `beta` are `(N, 1, 1)`, one of each task."""

    def build(self) -> None:
        """As any learner's."""
        super().build()
        config, tasks = self.config, tuple(self.config.tasks)
        self.alpha = self._per_task([config.alpha_of(task) for task in tasks])
        self.beta = self._per_task([config.beta_of(task) for task in tasks])

    def set_first_weights(self) -> None:
        """As `init_from` says."""
        if self.config.starts_from_another:
            weights = read_distilled_policy(self.config.init_from)
            for module_id in self.module.keys():  # no mapping
                start_from(weights, self.module[module_id], self.config.initial_head_scale(module_id))

    def compute_loss_for_module(self, **_: Any) -> Tensor:
        """RLlib asks each learner to have it; modules that shape each other have no loss of their own.

        Raises:
            NotImplementedError: Always.
        """
        raise NotImplementedError("The modules' losses are computed together: override `compute_losses`.")

    def keep_metrics(self, batch: Trajectories, **per_row: Tensor) -> None:
        """Remembers each task's means over the valid rows of `(N, T, B)` values."""
        for name, values in per_row.items():
            self.keep_task_metric(ALL_MODULES, name, batch.tasks, mean_of_rows(values, batch.valid)[:, None])

    def _per_task(self, values: list[float]) -> Tensor:
        return torch.tensor(values, device=self._device).view(-1, 1, 1)


def mean_of_rows(values: Tensor, valid: Tensor) -> Tensor:
    """Each task's mean `(N,)` over the rows `(N, T, B)` that are transitions; 0 where there are none."""
    total: Any = (values * valid).flatten(1).sum(1)
    return total / valid.flatten(1).sum(1).clamp(min=1)


def taken(values: Tensor, actions: Tensor) -> Tensor:
    """The values `(..., A)` of the actions `(...)`."""
    return values.gather(-1, actions.unsqueeze(-1)).squeeze(-1)
