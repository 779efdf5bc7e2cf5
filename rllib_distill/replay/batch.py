"""Batches for learners: rows, or sequences, of several tasks."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray

from rllib_distill.replay.fragment import BEHAVIOUR_LOG_PROBS, Fragment
from rllib_distill.tasks import SharedSpaces


@dataclass(frozen=True)
class Trajectories:
    """`T` consecutive steps of `B` environments of each of N tasks, time by time as in a `Fragment`.

    Attributes:
        tasks: Their names.
        observations: `(N, T + 1, B, *observation)`, padded to the common space, of the tasks' dtype.
        actions: `(N, T, B)` int64, common ones.
        rewards: `(N, T, B)` float32.
        terminations: `(N, T, B)` bool.
        truncations: `(N, T, B)` bool.
        valid: `(N, T, B)` bool, false where a row merely reset an environment.
        begins: `(N, T + 1, B)` bool, see `Fragment.begins`.
        behaviour_log_probs: `(N, T, B)` float32, log mu(a|s); None where it was not recorded.
        state: `(N, B, S)` float32, a policy's recurrent state before row 0 (before `begins[:, 0]` makes it
            forget); S = 0 where none was recorded.
        final_observations: `(N, K, *observation)`, the last observations of truncated episodes where the next
            row has another episode's; K is that of the task that has the most, and usually 0.
        final_rows: `(N, K)` int64, `t * B + b` of the row that each is the next observation of.
        final_valid: `(N, K)` bool, false where a task has fewer.
    """

    tasks: tuple[str, ...]
    observations: torch.Tensor
    actions: torch.Tensor
    rewards: torch.Tensor
    terminations: torch.Tensor
    truncations: torch.Tensor
    valid: torch.Tensor
    begins: torch.Tensor
    behaviour_log_probs: torch.Tensor | None
    state: torch.Tensor
    final_observations: torch.Tensor
    final_rows: torch.Tensor
    final_valid: torch.Tensor

    @classmethod
    def of(
        cls, fragments: Sequence[Fragment], spaces: SharedSpaces, device: torch.device | str = "cpu"
    ) -> Self:
        """From fragments of equal size, one per task, in the order that the tasks are to have.

        Args:
            fragments: Of one sample.
            spaces: The tasks' common spaces.
            device: Where the tensors go.
        """

        def stack(column: Callable[[Fragment], NDArray[Any]]) -> torch.Tensor:
            return torch.from_numpy(np.stack([column(fragment) for fragment in fragments])).to(device)

        observations = _padded([fragment.observations for fragment in fragments], spaces)
        final_observations, final_rows, final_valid = _final_observations(fragments, spaces)
        was_recorded = all(BEHAVIOUR_LOG_PROBS in fragment.labels for fragment in fragments)
        return cls(
            tasks=tuple(fragment.task for fragment in fragments),
            observations=torch.from_numpy(observations).to(device),
            actions=stack(lambda fragment: spaces.common_actions[fragment.task][fragment.actions]),
            rewards=stack(lambda fragment: fragment.rewards),
            terminations=stack(lambda fragment: fragment.terminations),
            truncations=stack(lambda fragment: fragment.truncations),
            valid=stack(lambda fragment: fragment.valid),
            begins=stack(Fragment.begins),
            behaviour_log_probs=stack(lambda f: f.labels[BEHAVIOUR_LOG_PROBS]) if was_recorded else None,
            state=stack(_state),
            final_observations=torch.from_numpy(final_observations).to(device),
            final_rows=torch.from_numpy(final_rows).to(device),
            final_valid=torch.from_numpy(final_valid).to(device),
        )

    @classmethod
    def joined(cls, samples: Sequence["Trajectories"]) -> "Trajectories":
        """Several samples of equal length side by side, as one of more environments.

        Args:
            samples: One at least, of the same tasks in the same order.
        """
        if len(samples) == 1:
            return samples[0]
        num_envs = [sample.actions.shape[2] for sample in samples]
        first_env = np.cumsum([0, *num_envs[:-1]]).tolist()

        def rows(sample: Trajectories, first: int) -> torch.Tensor:  # `t * B + b`, of another B
            t, b = sample.final_rows // sample.actions.shape[2], sample.final_rows % sample.actions.shape[2]
            return t * sum(num_envs) + first + b

        def join(name: str, dim: int) -> Any:
            values = [getattr(sample, name) for sample in samples]
            return None if any(value is None for value in values) else torch.cat(values, dim)

        return cls(
            tasks=samples[0].tasks,
            **{name: join(name, 2) for name in _BY_ENVS},
            **{name: join(name, 1) for name in ("state", "final_observations", "final_valid")},
            final_rows=torch.cat(list(map(rows, samples, first_env)), 1),
        )


_BY_ENVS = (
    "observations",
    "actions",
    "rewards",
    "terminations",
    "truncations",
    "valid",
    "begins",
    "behaviour_log_probs",
)


def _state(fragment: Fragment) -> NDArray[np.float32]:
    num_envs = fragment.actions.shape[1]
    return np.zeros((num_envs, 0), np.float32) if fragment.state is None else fragment.state


def _padded(arrays: Sequence[NDArray[Any]], spaces: SharedSpaces) -> NDArray[Any]:
    """Tasks' `(*rows, *observation)` in one array, zero where a task has fewer channels."""
    shape = spaces.observation_space.shape
    rows = arrays[0].shape[: arrays[0].ndim - len(shape)]
    needs_zeros = any(array.shape[-1] < shape[-1] for array in arrays)
    padded = (np.zeros if needs_zeros else np.empty)((len(arrays), *rows, *shape), arrays[0].dtype)
    for i, array in enumerate(arrays):
        padded[i, ..., : array.shape[-1]] = array
    return padded


def _final_observations(
    fragments: Sequence[Fragment], spaces: SharedSpaces
) -> tuple[NDArray[Any], NDArray[np.int64], NDArray[np.bool_]]:
    """The last three attributes of `Trajectories`."""
    most = max(len(fragment.final_observations) for fragment in fragments)
    like = fragments[0].frames
    observations = np.zeros((len(fragments), most, *spaces.observation_space.shape), like.dtype)
    rows = np.zeros((len(fragments), most), np.int64)
    is_valid = np.zeros((len(fragments), most), np.bool_)
    for i, fragment in enumerate(fragments):
        num_envs = fragment.actions.shape[1]
        for k, ((t, b), observation) in enumerate(fragment.final_observations.items()):
            observations[i, k, ..., : observation.shape[-1]] = observation
            rows[i, k] = t * num_envs + b
            is_valid[i, k] = True
    return observations, rows, is_valid
