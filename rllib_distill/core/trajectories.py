"""Learning from trajectories that env runners have just played: settings, learner, returns."""

from collections.abc import Callable
from typing import Any, Self, TypeVar

import torch
from ray.rllib.algorithms.impala.torch.vtrace_torch_v2 import vtrace_torch
from ray.rllib.utils.from_config import NotProvided
from torch import Tensor
from typing_extensions import override

from rllib_distill.core.config import MultiTaskConfig
from rllib_distill.core.learner import MultiTaskLearner
from rllib_distill.errors import DistillError, check_number
from rllib_distill.replay import Batch, FragmentQueue
from rllib_distill.replay.fragment import BEHAVIOUR_LOG_PROBS
from rllib_distill.tasks import SharedSpaces


class TrajectoryMixin(MultiTaskConfig):
    """Gives a config the settings of an actor-critic with V-trace (Espeholt et al., 2018)."""

    def __init__(self, algo_class: type | None = None):
        """Sets the defaults."""
        super().__init__(algo_class=algo_class)
        self.vf_loss_coeff = 0.5
        self.vtrace_clip_rho_threshold = 1.0
        self.vtrace_clip_pg_rho_threshold = 1.0

    @override
    def training(
        self,
        *,
        vf_loss_coeff: float = NotProvided,
        vtrace_clip_rho_threshold: float = NotProvided,
        vtrace_clip_pg_rho_threshold: float = NotProvided,
        **kwargs: Any,
    ) -> Self:
        """Sets the training related configuration.

        Args:
            vf_loss_coeff: Weight of the value functions' loss (default 0.5).
            vtrace_clip_rho_threshold: Upper limit of the importance weights in V-trace's targets (default 1),
                as in RLlib's IMPALA.
            vtrace_clip_pg_rho_threshold: Upper limit of the importance weights in the policy gradient
                (default 1).
            kwargs: See `MultiTaskConfig.training`. A minibatch is all samples that have come from env
                runners, each of `rollout_fragment_length` rows of `num_envs_per_task` environments of every
                task.

        Returns:
            This config.
        """
        super().training(**kwargs)
        return self._set_given(
            {
                "vf_loss_coeff": vf_loss_coeff,
                "vtrace_clip_rho_threshold": vtrace_clip_rho_threshold,
                "vtrace_clip_pg_rho_threshold": vtrace_clip_pg_rho_threshold,
            }
        )

    @override
    def module_spaces(self, module_id: str) -> SharedSpaces:
        """On trajectories, the spaces of all tasks for any module: a batch has all tasks side by side."""
        return self.shared_spaces if self.learns_on_policy else super().module_spaces(module_id)

    @override
    def validate(self) -> None:
        check_number("vf_loss_coeff", self.vf_loss_coeff, least=0)
        check_number("vtrace_clip_rho_threshold", self.vtrace_clip_rho_threshold, above=0)
        check_number("vtrace_clip_pg_rho_threshold", self.vtrace_clip_pg_rho_threshold, above=0)
        super().validate()

    def check_batch_size(self) -> None:
        """Raises DistillError if `train_batch_size_per_learner` is set, which has no effect."""
        rows = self._train_batch_size_per_learner  # the property would fall back on `train_batch_size`
        if rows is not None:
            raise DistillError(
                f"train_batch_size_per_learner is {rows!r}; what is learned from are env runners' whole "
                f"samples: remove it, and set rollout_fragment_length ({self.rollout_fragment_length}) and "
                f"num_envs_per_task ({self.num_envs_per_task}), whose product is the rows of each task."
            )


class TrajectoryLearner(MultiTaskLearner):
    """Makes one gradient step on all samples that wait, on all networks together.

    With a step for each sample, many runners would mean many steps on what the same old policy played, each
    further in a direction that was not tried, until entropies collapse.
    """

    store: FragmentQueue

    @override
    def make_store(self, num_env_runners: int) -> FragmentQueue:
        """Makes the queue in which samples wait for the next step."""
        self._rows = 0
        return FragmentQueue(tuple(self.config.tasks), self.config.shared_spaces, self._device)

    @override
    def draw_minibatch(self) -> Any:
        """Takes all samples that wait: module id -> the part of its tasks; None if there are none."""
        batch = self.next_batch()
        if batch is None:
            return None
        config = self.config
        return {mid: batch.of_tasks(config.tasks_of_module(mid)) for mid in self.module.keys()}  # no mapping

    def next_batch(self) -> Batch | None:
        """Takes all samples that wait, as one batch of all tasks; None if there are none."""
        batch = self.store.pop_all()
        self._rows = 0 if batch is None else batch.num_rows
        return batch

    @property
    @override
    def rows_per_minibatch(self) -> int:
        """Rows of the last minibatch."""
        return self._rows

    @property
    @override
    def minibatch_weight(self) -> float:
        """The number of rows, as ranks may have samples of different numbers of runners."""
        return float(self._rows)


Outputs = TypeVar("Outputs")


def at_final_observations(
    ask: Callable[[Tensor, tuple[str, ...], Tensor, Tensor], Outputs], batch: Batch, states: Tensor
) -> Outputs | None:
    """A network's outputs for the last observations of truncated episodes; None if there are none.

    Args:
        ask: A network, or task policies: takes observations `(N, 1, K, *observation)`, tasks, states
            `(N, K, S)` and is_first `(N, 1, K)`.
        batch: The trajectories.
        states: Recurrent states after each row, `(N, T + 1, B, S)`.
    """
    if batch.final is None:
        return None
    rows = batch.final.rows[..., None].expand(-1, -1, states.shape[-1])
    is_first = torch.zeros_like(batch.final.valid)[:, None]
    before = states.flatten(1, 2).gather(1, rows)
    return ask(batch.final.observations[:, None], batch.tasks, before, is_first)


def taken(values: Tensor, actions: Tensor) -> Tensor:
    """The values `(..., A)` of the actions `(...)`."""
    return values.gather(-1, actions.unsqueeze(-1)).squeeze(-1)


def next_values(batch: Batch, values: Tensor, final_values: Tensor | None) -> Tensor:
    """The value of the observation that follows each row.

    Args:
        batch: The trajectories.
        values: V of all observations, `(N, T + 1, B)`.
        final_values: V of the last observations of truncated episodes, `(N, K)`, or None if there are none.

    Returns:
        `(N, T, B)`; meaningless where an episode ended in a terminal state.
    """
    following = values[:, 1:]
    if final_values is None or batch.final is None:
        return following
    shape = following.shape
    following = following.flatten(1).clone()
    tasks, k = batch.final.valid.nonzero(as_tuple=True)
    following[tasks, batch.final.rows[tasks, k]] = final_values[tasks, k]
    return following.view(shape)


def vtrace(
    batch: Batch,
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
        rewards: Rewards, `(N, T, B)`.
        values: V of all observations, `(N, T + 1, B)`.
        final_values: As in `next_values`.
        gamma: Discount factor.
        clip_rho_threshold: Upper limit of the importance weights in the targets.
        clip_pg_rho_threshold: Upper limit of the importance weights in the advantages.

    Returns:
        Both `(N, T, B)`, without gradient; meaningless in rows that are no transitions.
    """
    columns = batch.columns
    with torch.no_grad():
        truncated = columns["truncations"] & ~columns["terminations"]
        following = next_values(batch, values, final_values)
        # An episode's end cuts the recursion, so the value after a truncated one joins its last reward.
        rewards = torch.where(truncated, rewards + gamma * following, rewards)
        targets, advantages = vtrace_torch(
            target_action_log_probs=_time_first(log_probs),
            behaviour_action_log_probs=_time_first(columns[BEHAVIOUR_LOG_PROBS]),
            discounts=_time_first(gamma * batch.continues.float()),
            rewards=_time_first(rewards),
            values=_time_first(values[:, :-1]),
            bootstrap_values=values[:, -1].flatten(),
            clip_rho_threshold=clip_rho_threshold,
            clip_pg_rho_threshold=clip_pg_rho_threshold,
        )
    shape = rewards.movedim(1, 0).shape
    return targets.view(shape).movedim(0, 1), advantages.view(shape).movedim(0, 1)


def _time_first(values: Tensor) -> Tensor:
    """`(N, T, B)` to `(T, N * B)`."""
    return values.movedim(1, 0).flatten(1)
