"""One task's steps, time-major: what env runners hand to learners, and what evaluation returns."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass
class Fragment:
    """`T` consecutive steps of the `B` environments of one task.

    Row `t` is the transition `observations[t] -> observations[t + 1]`; it is one only where `valid[t]`:
    in gymnasium's NEXT_STEP autoreset mode the step that merely resets an environment is none.
    In SAME_STEP mode `observations[t + 1]` already belongs to the next episode, so the last observation
    of a *truncated* episode, which is bootstrapped from, is kept in `final_observations[t, b]`
    (a terminated one needs none). RLlib asks an episode for `env_steps()` and `agent_steps()` only.

    Attributes:
        task: Name of the task.
        source: Index of the env runner: fragments of one source follow each other in time.
        start: Time index of row 0 on its source's clock; a gap says that the environments were reset between.
        observations: `(T + 1, B, *observation)`, in the environment's own dtype.
        actions: `(T, B)` int64, indices into the task's own actions.
        rewards: `(T, B)` float32.
        terminations: `(T, B)` bool, the episode ended in a terminal state.
        truncations: `(T, B)` bool, the episode was cut off.
        valid: `(T, B)` bool.
        final_observations: `(t, b) -> observation`.
        labels: What the task's expert says of `observations[:T]`: name -> `(T, B, ...)` float32.
    """

    task: str
    source: int
    start: int
    observations: NDArray[Any]
    actions: NDArray[np.int64]
    rewards: NDArray[np.float32]
    terminations: NDArray[np.bool_]
    truncations: NDArray[np.bool_]
    valid: NDArray[np.bool_]
    final_observations: dict[tuple[int, int], NDArray[Any]] = field(default_factory=dict)
    labels: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)

    @classmethod
    def empty(
        cls, task: str, source: int, start: int, steps: int, first_observation: NDArray[Any]
    ) -> "Fragment":
        """Arrays for `steps` rows, with the `(B, *observation)` of row 0 written."""
        num_envs = len(first_observation)
        observations = np.empty((steps + 1, *first_observation.shape), first_observation.dtype)
        observations[0] = first_observation
        shape = (steps, num_envs)
        return cls(
            task=task,
            source=source,
            start=start,
            observations=observations,
            actions=np.empty(shape, np.int64),
            rewards=np.empty(shape, np.float32),
            terminations=np.empty(shape, np.bool_),
            truncations=np.empty(shape, np.bool_),
            valid=np.ones(shape, np.bool_),
        )

    def __len__(self) -> int:
        """Number of rows, `T`."""
        return len(self.actions)

    def env_steps(self) -> int:
        """Number of transitions, without autoreset rows."""
        return int(self.valid.sum())

    def agent_steps(self) -> int:
        """As `env_steps`: one agent, the task, acts in each step."""
        return self.env_steps()


@dataclass(frozen=True)
class EpisodeReturns:
    """Whole episodes of one task, for evaluation: undiscounted, unclipped returns and lengths in steps."""

    task: str
    returns: tuple[float, ...]
    lengths: tuple[int, ...]

    def env_steps(self) -> int:
        """Number of steps in all episodes."""
        return sum(self.lengths)

    def agent_steps(self) -> int:
        """As `env_steps`: one agent, the task, acts in each step."""
        return self.env_steps()
