"""The spaces of a student of several tasks: one observation space and one common set of actions."""

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
    """The properties of a task that are needed here; `Task` has them."""

    @property
    def observation_space(self) -> Box:
        """The observation space of one environment."""

    @property
    def num_actions(self) -> int:
        """The size of the task's own action set."""

    @property
    def action_meanings(self) -> tuple[str, ...] | None:
        """A name for each of the task's own actions; None if they have no names."""


@dataclass(frozen=True, eq=False)
class SharedSpaces:
    """The spaces of a student of several tasks; `A` is `num_actions`, `n_i` the size of task i's own set.

    Attributes:
        observation_space: The tasks' spaces, with the last axis (channels) zero-padded to the largest one.
        action_meanings: The names of the `A` common actions; None if they are matched by index, not by name.
        num_actions: The number of common actions, `A`.
        common_actions: Task -> `(n_i,)` int64, the index of the common action for each of its own actions.
        legal_actions: Task -> `(A,)` bool, whether the task has a common action.
        channels: Task -> size of the last axis of the task's own observations.
    """

    observation_space: Box
    action_meanings: tuple[str, ...] | None
    num_actions: int
    common_actions: Mapping[str, NDArray[np.int64]]
    legal_actions: Mapping[str, NDArray[np.bool_]]
    channels: Mapping[str, int]

    def pad(self, observations: NDArray[Scalar], out: NDArray[Scalar] | None = None) -> NDArray[Scalar]:
        """Pads the last axis (channels) of a task's observations with zeros.

        Args:
            observations: `(..., *shape)`, where `shape` is that of the task's own observations.
            out: An array to write into, whose other channels are already zero; None for a new one.

        Returns:
            `(..., *observation_space.shape)` of the same dtype; the observations themselves, if `out` is None
            and they need no padding.
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
        """Returns a view of padded observations (arrays or tensors) without the channels that `pad` added."""
        if not self.observation_space.shape:
            return observations
        own: AnyArray = observations[..., : self.channels[task]]  # type: ignore[index]  # both kinds have it
        return own

    def to_common(self, task: str, actions: NDArray[np.int64]) -> NDArray[np.int64]:
        """Maps a task's own actions to common ones, elementwise."""
        return self.common_actions[task][actions]

    def to_own(self, task: str, actions: NDArray[np.int64]) -> NDArray[np.int64]:
        """Maps common actions that are legal in a task to the task's own ones, elementwise."""
        own = np.zeros(self.num_actions, np.int64)
        own[self.common_actions[task]] = np.arange(len(self.common_actions[task]))
        return own[actions]

    def scatter(
        self, task: str, values: NDArray[Scalar], out: NDArray[Scalar] | None = None
    ) -> NDArray[Scalar]:
        """Moves values of a task's own actions to the places of the common actions.

        Args:
            task: The task.
            values: `(..., n_i)`.
            out: `(..., A)` to write into; None for a new array of zeros.

        Returns:
            `(..., A)`; the values of other actions are those of `out`.
        """
        if out is None:
            out = np.zeros((*values.shape[:-1], self.num_actions), values.dtype)
        out[..., self.common_actions[task]] = values
        return out

    def legal_of(self, tasks: Iterable[str]) -> NDArray[np.bool_] | None:
        """Returns the legal common actions of N tasks, `(N, A)` bool; None if all are legal in all tasks."""
        legal = np.stack([self.legal_actions[task] for task in tasks])
        return None if legal.all() else legal


def share_spaces(tasks: Mapping[str, HasSpaces], *, own_actions: bool = False) -> SharedSpaces:
    """Finds the common spaces of `tasks`; see `TaskSet.shared` for arguments and errors."""
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
    """Writes a space in one line, without the line breaks of long bounds."""
    return " ".join(str(space).split())


def _common_meanings(tasks: Mapping[str, HasSpaces]) -> tuple[str, ...] | None:
    """Returns the union of the tasks' action names, starting with those of the task with the most actions."""
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
    # The shape is given, since gymnasium would otherwise add an axis to bounds that have none.
    return Box(low, high, shape=low.shape, dtype=boxes[0].low.dtype.type)


def _kind(space: Box) -> tuple[int, tuple[int, ...], np.dtype[Any]]:
    return len(space.shape), space.shape[:-1], space.low.dtype


def _fill_up(bound: NDArray[Any], size: int) -> NDArray[Any]:
    """Pads the last axis with zeros up to `size`."""
    return np.pad(bound, [(0, 0)] * (bound.ndim - 1) + [(0, size - bound.shape[-1])]) if bound.ndim else bound


def check_render_mode(render_mode: Any) -> None:
    """Raises DistillError unless `render_mode` is one of those of this package's environments."""
    if render_mode not in (None, "rgb_array"):
        raise DistillError(f"render_mode is {render_mode!r}; it must be 'rgb_array' or None.")
