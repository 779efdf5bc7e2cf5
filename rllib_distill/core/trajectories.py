"""Learning from trajectories that env runners have just played: settings, learner, returns."""

from collections.abc import Callable
from typing import Any, Self, TypeVar

import torch
from ray.rllib.algorithms.impala.torch.vtrace_torch_v2 import vtrace_torch
from ray.rllib.utils.from_config import NotProvided
from torch import Tensor

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
            vtrace_clip_rho_threshold: At what the importance weights of V-trace's targets are clipped, as in
                RLlib's IMPALA (default 1).
            vtrace_clip_pg_rho_threshold: At what those of the policy gradient are (default 1).
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

    def module_spaces(self, module_id: str) -> SharedSpaces:
        """On trajectories those of all tasks, whatever the module: a batch has all of them side by side."""
        return self.shared_spaces if self.learns_on_policy else super().module_spaces(module_id)

    def validate(self) -> None:
        """Checks every value before anything starts."""
        check_number("vf_loss_coeff", self.vf_loss_coeff, least=0)
        check_number("vtrace_clip_rho_threshold", self.vtrace_clip_rho_threshold, above=0)
        check_number("vtrace_clip_pg_rho_threshold", self.vtrace_clip_pg_rho_threshold, above=0)
        super().validate()

    def check_batch_size(self) -> None:
        """Raises DistillError if `train_batch_size_per_learner` is set, which has no effect.

        Not the property of this name, which says what `train_batch_size` does where it is not set.
        """
        rows = self._train_batch_size_per_learner
        if rows is not None:
            raise DistillError(
                f"train_batch_size_per_learner is {rows!r}; what is learned from are env runners' whole "
                f"samples: remove it, and set rollout_fragment_length ({self.rollout_fragment_length}) and "
                f"num_envs_per_task ({self.num_envs_per_task}), whose product is the rows of each task."
            )


class TrajectoryLearner(MultiTaskLearner):
    """One gradient step on all samples that wait, on all networks together.

    One step for each sample would make as many of them with what the same old policy played, and the more
    runners there are, the further each goes in a direction that nobody has tried: entropies collapse.
    """

    store: FragmentQueue

    def make_store(self, num_env_runners: int) -> FragmentQueue:
        """Samples wait here for the next step."""
        self._rows = 0
        return FragmentQueue(tuple(self.config.tasks), self.config.shared_spaces, self._device)

    def draw_minibatch(self) -> Any:
        """All samples that wait: module id -> the part of its tasks; None where there are none."""
        batch = self.next_batch()
        if batch is None:
            return None
        config = self.config
        return {mid: batch.of_tasks(config.tasks_of_module(mid)) for mid in self.module.keys()}  # no mapping

    def next_batch(self) -> Batch | None:
        """All samples that wait, of all tasks together."""
        batch = self.store.pop_all()
        self._rows = 0 if batch is None else batch.num_rows
        return batch

    @property
    def rows_per_minibatch(self) -> int:
        """Of the last one."""
        return self._rows

    @property
    def minibatch_weight(self) -> float:
        """Ranks may have samples of different numbers of runners."""
        return float(self._rows)


Said = TypeVar("Said")


def at_final_observations(
    ask: Callable[[Tensor, tuple[str, ...], Tensor, Tensor], Said], batch: Batch, states: Tensor
) -> Said | None:
    """What is said of the last observations of truncated episodes; None where no row has one.

    Args:
        ask: A network, or task policies: takes observations `(N, 1, K, *observation)`, tasks, states
            `(N, K, S)` and is_first `(N, 1, K)`.
        batch: The trajectories.
        states: After each of their rows, `(N, T + 1, B, S)`.
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
    """The value of what follows each row.

    Args:
        batch: The trajectories.
        values: V of all observations, `(N, T + 1, B)`.
        final_values: V of the last observations of truncated episodes, `(N, K)`, or None: there are none.

    Returns:
        `(N, T, B)`; where an episode ended in a terminal state, of no meaning.
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
        rewards: `(N, T, B)`.
        values: V of all observations, `(N, T + 1, B)`.
        final_values: As in `next_values`.
        gamma: Discount factor.
        clip_rho_threshold: Of the importance weights in the targets.
        clip_pg_rho_threshold: Of those in the advantages.

    Returns:
        Both `(N, T, B)`, without gradient; rows that are no transitions have none that mean anything.
    """
    columns = batch.columns
    with torch.no_grad():
        truncated = columns["truncations"] & ~columns["terminations"]
        following = next_values(batch, values, final_values)
        # An episode's end cuts the recursion; what a truncated one leaves out joins the last reward.
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
