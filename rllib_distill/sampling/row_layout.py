"""The rows of one forward of several tasks, and what each row's actions mean."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from rllib_distill.sampling.memory_habits import axes_in_memory
from rllib_distill.tasks import SharedSpaces


@dataclass(frozen=True)
class RowLayout:
    """The rows of one forward, `N = len(tasks) * B`, and what each row's actions mean.

    Attributes:
        input: `(N, *observation)`, zero where a task has fewer channels.
        parts: Per task, the view of `input` that its observations fill.
        illegal: `(N, A)` float32, 0 or -inf, to add to values.
        uniform: `(N, A)` probabilities of a uniformly random legal action.
        own_actions: `(N, A)` the task's own index of each common action.
        num_actions: `(N,)` how many actions the row's task has.
        rows: `(N,)` 0, 1, 2, ...
    """

    input: NDArray[Any]
    parts: tuple[NDArray[Any], ...]
    illegal: NDArray[np.float32]
    uniform: NDArray[np.float64]
    own_actions: NDArray[np.int64]
    num_actions: NDArray[np.int64]
    rows: NDArray[np.int64]

    @classmethod
    def of(cls, spaces: SharedSpaces, like: Mapping[str, NDArray[Any]], num_envs: int) -> Self:
        """The layout for observations like these, task -> `(num_envs, *observation)`."""
        space, tasks = spaces.observation_space, tuple(like)
        buffer = _zeros_like_order((len(tasks) * num_envs, *space.shape), like[tasks[0]])
        own_actions = np.zeros((len(tasks), spaces.num_actions), np.int64)
        for i, task in enumerate(tasks):
            own_actions[i, spaces.common_actions[task]] = np.arange(len(spaces.common_actions[task]))
        legal = np.stack([spaces.legal_actions[task] for task in tasks])
        return cls(
            input=buffer,
            parts=tuple(
                buffer[i * num_envs : (i + 1) * num_envs, ..., : observation.shape[-1]]
                for i, observation in enumerate(like.values())
            ),
            illegal=np.where(legal, 0.0, -np.inf).astype(np.float32).repeat(num_envs, axis=0),
            uniform=(legal / legal.sum(axis=1, keepdims=True)).repeat(num_envs, axis=0),
            own_actions=own_actions.repeat(num_envs, axis=0),
            num_actions=legal.sum(axis=1).repeat(num_envs),
            rows=np.arange(len(buffer)),
        )

    def fill(self, observations: Mapping[str, NDArray[Any]]) -> None:
        """Writes the tasks' observations into `input`."""
        for part, observation in zip(self.parts, observations.values(), strict=True):
            part[...] = observation


def _zeros_like_order(shape: tuple[int, ...], like: NDArray[Any]) -> NDArray[Any]:
    """Zeros with the dtype of `like` and its order of axes in memory, in which it is copied fastest."""
    order = axes_in_memory(like)
    return np.zeros([shape[axis] for axis in order], like.dtype).transpose(np.argsort(order))
