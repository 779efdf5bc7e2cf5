"""One task's steps, time-major: what env runners hand to learners."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

STEP_COLUMNS = ("actions", "rewards", "terminations", "truncations", "valid")
"""Attributes of a fragment, `(T, B)`, that replay buffers and batches have as columns."""

EXPERT_OUTPUTS = "expert_outputs"
"""Column: the experts' Q-values or logits, a label."""

EXPERT_FEATURES = "expert_features"
"""Column: the experts' last hidden layers, a label."""

BEHAVIOUR_LOG_PROBS = "behaviour_log_probs"
"""Column: log mu(a|s) of the action that was taken, under the policy that drew it."""

BY_EXPERT = "by_expert"
"""Column: whether the task's expert acted, for the env runner's metrics; learners do not get it."""


@dataclass
class Fragment:
    """`T` consecutive steps of the `B` environments of one task.

    Row `t` is the transition `observations[t] -> observations[t + 1]`; it is one only where `valid[t]`:
    in gymnasium's NEXT_STEP autoreset mode the step that merely resets an environment is none.
    In SAME_STEP mode `observations[t + 1]` already belongs to the next episode, so the last observation
    of a *truncated* episode, which is bootstrapped from, is kept in `final_observations[t, b]`
    (a terminated one needs none). RLlib asks an episode for `env_steps()` and `agent_steps()` only.

    Where observations are stacks of `k` frames along their last axis (`frame_stack` is `k > 1`), each frame
    is kept once: `frames[t + k - 1]` is the newest of row `t`'s, `frames[t:t + k]` are all, and those from
    before the environment's reset, which `steps_since_reset` tells, are zero in the stack.

    Attributes:
        task: Name of the task.
        env_runner_index: The env runner that played it, whose fragments follow each other in time.
        start: Time index of row 0 on the env runner's clock; a gap says that the environments were reset
            between.
        frame_stack: `k`, 1 where nothing is stacked and a frame is the whole observation.
        frames: `(T + k, B, *frame)`, in the environment's own dtype.
        steps_since_reset: `(T + 1, B)` uint8, steps since the environment's reset, at most `k - 1`.
        is_first: `(T + 1, B)` bool, whether an observation begins an episode, as learners see episodes.
        actions: `(T, B)` int64, indices into the task's own actions.
        rewards: `(T, B)` float32.
        terminations: `(T, B)` bool, whether the episode ended in a terminal state.
        truncations: `(T, B)` bool, whether the episode was cut off.
        valid: `(T, B)` bool, whether the row is a transition.
        final_observations: `(t, b) -> observation`, the last ones of truncated episodes.
        columns: Name -> `(T, B, ...)`: what the actor tells of its actions, and the expert's labels of
            `observations[:T]`.
        state: `(B, S)` float32, the actor's recurrent state before row 0 (not yet forgotten where an
            episode begins there); `S` is 0 if nothing is recurrent.
    """

    task: str
    env_runner_index: int
    start: int
    frame_stack: int
    frames: NDArray[Any]
    steps_since_reset: NDArray[np.uint8]
    is_first: NDArray[np.bool_]
    actions: NDArray[np.int64]
    rewards: NDArray[np.float32]
    terminations: NDArray[np.bool_]
    truncations: NDArray[np.bool_]
    valid: NDArray[np.bool_]
    state: NDArray[np.float32]
    final_observations: dict[tuple[int, int], NDArray[Any]] = field(default_factory=dict)
    columns: dict[str, NDArray[Any]] = field(default_factory=dict)

    @classmethod
    def empty(
        cls,
        task: str,
        env_runner_index: int,
        start: int,
        steps: int,
        first_observation: NDArray[Any],
        frame_stack: int = 1,
    ) -> "Fragment":
        """Allocates `steps` rows and writes the `(B, *observation)` of row 0, as just after a reset."""
        num_envs = len(first_observation)
        frame_shape = first_observation.shape[1:] if frame_stack == 1 else first_observation.shape[1:-1]
        frames = np.empty((steps + frame_stack, num_envs, *frame_shape), first_observation.dtype)
        if frame_stack == 1:
            frames[0] = first_observation
        else:
            frames[:frame_stack] = np.moveaxis(first_observation, -1, 0)
        shape = (steps, num_envs)
        return cls(
            task=task,
            env_runner_index=env_runner_index,
            start=start,
            frame_stack=frame_stack,
            frames=frames,
            steps_since_reset=np.zeros((steps + 1, num_envs), np.uint8),
            is_first=np.ones((steps + 1, num_envs), np.bool_),
            actions=np.empty(shape, np.int64),
            rewards=np.empty(shape, np.float32),
            terminations=np.empty(shape, np.bool_),
            truncations=np.empty(shape, np.bool_),
            valid=np.ones(shape, np.bool_),
            state=np.zeros((num_envs, 0), np.float32),
        )

    @property
    def observations(self) -> NDArray[Any]:
        """`(T + 1, B, *observation)`: a view, or a copy where frames have to be stacked."""
        if self.frame_stack == 1:
            return self.frames
        index = np.arange(len(self) + 1)[:, None] + np.arange(self.frame_stack)
        stacks = self.frames[index].swapaxes(1, 2)  # (T + 1, B, k, *frame)
        forget_frames_before_reset(stacks, self.steps_since_reset)
        return np.moveaxis(stacks, 2, -1)

    def write(self, t: int, name: str, values: NDArray[Any]) -> None:
        """Writes row `t` of a column, `(B, ...)`; the first row that comes makes the column."""
        column = self.columns.get(name)
        if column is None:
            column = self.columns[name] = np.zeros((len(self), *values.shape), values.dtype)
        column[t] = values

    def __len__(self) -> int:
        """Number of rows, `T`."""
        return len(self.actions)

    @property
    def num_envs(self) -> int:
        """`B`."""
        return int(self.actions.shape[1])

    def env_steps(self) -> int:
        """Number of transitions, without autoreset rows."""
        return int(self.valid.sum())

    def agent_steps(self) -> int:
        """Number of transitions too, since one agent, the task, acts in each."""
        return self.env_steps()


def forget_frames_before_reset(stacks: NDArray[Any], steps_since_reset: NDArray[np.uint8]) -> None:
    """Zeroes, in place, the frames of stacks that are from before a reset.

    Args:
        stacks: `(*rows, k, *frame)`, oldest frame first.
        steps_since_reset: `(*rows)`, how many frames before the newest are from after the reset.
    """
    frame_stack = stacks.shape[steps_since_reset.ndim]
    if (steps_since_reset < frame_stack - 1).any():
        age = np.arange(frame_stack, dtype=np.uint8)
        stacks[steps_since_reset[..., None] + age < frame_stack - 1] = 0
