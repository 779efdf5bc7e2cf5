"""What different tasks need to share one student: one observation space, one common set of actions."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any, Protocol, TypeVar

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box
from numpy.typing import NDArray

from rllib_distill.errors import DistillError

Scalar = TypeVar("Scalar", bound=np.generic)
AnyArray = TypeVar("AnyArray")


class HasSpaces(Protocol):
    """What this file needs to know of a task (`Task` has it)."""

    @property
    def observation_space(self) -> Box:
        """Observation space of one environment."""

    @property
    def num_actions(self) -> int:
        """Size of the task's own action set."""

    @property
    def action_meanings(self) -> tuple[str, ...] | None:
        """A name for each of the task's actions, if they have names."""


@dataclass(frozen=True, eq=False)
class SharedSpaces:
    """The spaces of a student of several tasks; `A` is `num_actions`, `n_i` the size of task i's own set.

    Attributes:
        observation_space: each task's, with the last axis (channels) zero-padded to the largest.
        action_meanings: the names of the `A` common actions, None if some task's actions have no names.
        num_actions: `A`.
        common_actions: task -> `(n_i,)` int64, the common action that each of the task's own actions is.
        legal_actions: task -> `(A,)` bool, the common actions that the task has.
        channels: task -> size of the last axis of the task's own observations.
    """

    observation_space: Box
    action_meanings: tuple[str, ...] | None
    num_actions: int
    common_actions: Mapping[str, NDArray[np.int64]]
    legal_actions: Mapping[str, NDArray[np.bool_]]
    channels: Mapping[str, int]

    def pad(self, observations: NDArray[Scalar], out: NDArray[Scalar] | None = None) -> NDArray[Scalar]:
        """Fills the last axis (channels) up with zeros.

        Args:
            observations: `(..., *task's observation shape)`.
            out: Array to write into, whose further channels are zero; None for a new one, if one is needed.

        Returns:
            `(..., *observation_space.shape)`, of the same dtype.
        """
        shape = self.observation_space.shape
        if out is None:
            if not shape or observations.shape[-1] == shape[-1]:
                return observations
            rows = observations.shape[: observations.ndim - len(shape)]
            out = np.zeros((*rows, *shape), dtype=observations.dtype)
        out[..., : observations.shape[-1]] = observations
        return out

    def own_part(self, task: str, observations: AnyArray) -> AnyArray:
        """The part of padded observations, arrays or tensors, that a task's own ones are; a view."""
        if not self.observation_space.shape:
            return observations
        own: AnyArray = observations[..., : self.channels[task]]  # type: ignore[index]  # both kinds have it
        return own

    def to_common(self, task: str, actions: NDArray[np.int64]) -> NDArray[np.int64]:
        """Maps a task's own actions to common ones."""
        return self.common_actions[task][actions]

    def to_own(self, task: str, actions: NDArray[np.int64]) -> NDArray[np.int64]:
        """Maps legal common actions to a task's own."""
        own = np.zeros(self.num_actions, np.int64)
        own[self.common_actions[task]] = np.arange(len(self.common_actions[task]))
        return own[actions]

    def scatter(
        self, task: str, values: NDArray[Scalar], out: NDArray[Scalar] | None = None
    ) -> NDArray[Scalar]:
        """Spreads values `(..., n_i)` of a task's own actions to `(..., A)`; others are 0, or as in `out`."""
        if out is None:
            out = np.zeros((*values.shape[:-1], self.num_actions), values.dtype)
        out[..., self.common_actions[task]] = values
        return out

    def legal_of(self, tasks: Iterable[str]) -> NDArray[np.bool_] | None:
        """The legal actions of each of some tasks, `(N, A)`; None if all are legal."""
        legal = np.stack([self.legal_actions[task] for task in tasks])
        return None if legal.all() else legal


def share_spaces(tasks: Mapping[str, HasSpaces], *, own_actions: bool = False) -> SharedSpaces:
    """Finds the common spaces of `tasks`: see `TaskSet.shared`."""
    meanings = None if own_actions else _common_meanings(tasks)
    if meanings is None:
        num_actions = max(task.num_actions for task in tasks.values())
        common = {name: np.arange(task.num_actions) for name, task in tasks.items()}
    else:
        num_actions = len(meanings)
        index = {meaning: action for action, meaning in enumerate(meanings)}
        common = {
            name: np.array([index[meaning] for meaning in task.action_meanings or ()])
            for name, task in tasks.items()
        }
    return SharedSpaces(
        observation_space=_common_observation_space(tasks),
        action_meanings=meanings,
        num_actions=num_actions,
        common_actions=common,
        legal_actions={name: np.isin(np.arange(num_actions), actions) for name, actions in common.items()},
        channels={name: (task.observation_space.shape or (0,))[-1] for name, task in tasks.items()},
    )


def one_line(space: gym.Space[Any]) -> str:
    """A space as text for an error message: numpy breaks long bounds over several lines."""
    return " ".join(str(space).split())


def _common_meanings(tasks: Mapping[str, HasSpaces]) -> tuple[str, ...] | None:
    """The union of all action names: those of the task with the most actions first, in its order."""
    if any(task.action_meanings is None for task in tasks.values()):
        return None
    largest_first = sorted(tasks.values(), key=lambda task: -task.num_actions)
    return tuple(dict.fromkeys(chain.from_iterable(task.action_meanings or () for task in largest_first)))


def _common_observation_space(tasks: Mapping[str, HasSpaces]) -> Box:
    (first, first_task), *_ = tasks.items()
    for name, task in tasks.items():
        if _kind(task.observation_space) != _kind(first_task.observation_space):
            spaces = f"{one_line(first_task.observation_space)} and {one_line(task.observation_space)}"
            raise DistillError(
                f"tasks {first!r} and {name!r} cannot share a student: they observe {spaces}; "
                "all axes but the last, and the dtype, must agree: use wrappers (for Atari env_config: "
                "{screen_size: 84}), or leave one task out."
            )
    boxes = [task.observation_space for task in tasks.values()]
    size = max((box.shape[-1] for box in boxes if box.shape), default=0)
    low = np.min([_fill_up(box.low, size) for box in boxes], axis=0)
    high = np.max([_fill_up(box.high, size) for box in boxes], axis=0)
    # Without a shape, gymnasium would give numbers, which have no axis, one.
    return Box(low, high, shape=low.shape, dtype=boxes[0].low.dtype.type)


def _kind(space: Box) -> tuple[int, tuple[int, ...], np.dtype[Any]]:
    return len(space.shape), space.shape[:-1], space.low.dtype


def _fill_up(bound: NDArray[Any], size: int) -> NDArray[Any]:
    """Zeros at the end of the last axis, up to `size`."""
    return np.pad(bound, [(0, 0)] * (bound.ndim - 1) + [(0, size - bound.shape[-1])]) if bound.ndim else bound


def check_render_mode(render_mode: Any) -> None:
    """Raises DistillError unless `render_mode` is one that this package's environments have."""
    if render_mode not in (None, "rgb_array"):
        raise DistillError(f"render_mode is {render_mode!r}; it must be 'rgb_array' or None.")
