"""One task's steps, time-major: what env runners hand to learners."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

EXPERT_OUTPUTS = "expert_outputs"
"""Q-values or logits of the experts: a label."""

EXPERT_FEATURES = "expert_features"
"""Last hidden layers of the experts: a label."""

LEGAL_ACTIONS = "legal_actions"
"""`(N, A)` bool, or None if all are legal."""

TASKS = "tasks"
"""Names of tasks; the rows are as many equal chunks, task by task."""

BEHAVIOUR_LOG_PROBS = "behaviour_log_probs"
"""log mu(a|s) of the action that was taken, under whoever drew it: a label, `(T, B)` in a fragment."""


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
    before the environment's reset, which `ages` tells, are zero in the stack.

    Attributes:
        task: Name of the task.
        source: Index of the env runner: fragments of one source follow each other in time.
        start: Time index of row 0 on its source's clock; a gap says that the environments were reset between.
        frames: `(T + k, B, *frame)`, in the environment's own dtype; `k` is 1 and a frame the whole
            observation where nothing is stacked.
        ages: `(T + 1, B)` uint8, how many steps ago the environment was reset, at most `k - 1`.
        actions: `(T, B)` int64, indices into the task's own actions.
        rewards: `(T, B)` float32.
        terminations: `(T, B)` bool, the episode ended in a terminal state.
        truncations: `(T, B)` bool, the episode was cut off.
        valid: `(T, B)` bool.
        final_observations: `(t, b) -> observation`.
        first_begins: `(B,)` bool, whether row 0 is the first of an episode.
        labels: What the task's expert says of `observations[:T]`, or whoever acted of how it did: name ->
            `(T, B, ...)` float32.
        state: `(B, S)` float32, who acted: its recurrent state before row 0, and before an episode that
            begins there made it forget; None: there is none.
    """

    task: str
    source: int
    start: int
    frame_stack: int
    frames: NDArray[Any]
    ages: NDArray[np.uint8]
    actions: NDArray[np.int64]
    rewards: NDArray[np.float32]
    terminations: NDArray[np.bool_]
    truncations: NDArray[np.bool_]
    valid: NDArray[np.bool_]
    first_begins: NDArray[np.bool_]
    final_observations: dict[tuple[int, int], NDArray[Any]] = field(default_factory=dict)
    labels: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    state: NDArray[np.float32] | None = None

    @classmethod
    def empty(
        cls,
        task: str,
        source: int,
        start: int,
        steps: int,
        first_observation: NDArray[Any],
        frame_stack: int = 1,
    ) -> "Fragment":
        """Arrays for `steps` rows, with the `(B, *observation)` of row 0 written, as just after a reset."""
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
            source=source,
            start=start,
            frame_stack=frame_stack,
            frames=frames,
            ages=np.zeros((steps + 1, num_envs), np.uint8),
            actions=np.empty(shape, np.int64),
            rewards=np.empty(shape, np.float32),
            terminations=np.empty(shape, np.bool_),
            truncations=np.empty(shape, np.bool_),
            valid=np.ones(shape, np.bool_),
            first_begins=np.ones(num_envs, np.bool_),
        )

    @property
    def observations(self) -> NDArray[Any]:
        """`(T + 1, B, *observation)`: a view, or a copy where frames have to be stacked."""
        if self.frame_stack == 1:
            return self.frames
        index = np.arange(len(self) + 1)[:, None] + np.arange(self.frame_stack)
        stacks = self.frames[index].swapaxes(1, 2)  # (T + 1, B, k, *frame)
        forget_frames_before_reset(stacks, self.ages)
        return np.moveaxis(stacks, 2, -1)

    def begins(self) -> NDArray[np.bool_]:
        """`(T + 1, B)`: where an observation is the first of an episode, as far as the fragment can know.

        Whether the last one is, after an episode that ended in the last row, only the next fragment tells:
        in SAME_STEP mode it is, in NEXT_STEP mode it is the old episode's.
        """
        begins = np.concatenate([self.first_begins[None], ~self.valid])
        ended = self.terminations | self.truncations
        begins[1:-1] |= ended[:-1] & self.valid[1:]  # SAME_STEP: no row between the episodes
        return begins

    def __len__(self) -> int:
        """Number of rows, `T`."""
        return len(self.actions)

    def env_steps(self) -> int:
        """Number of transitions, without autoreset rows."""
        return int(self.valid.sum())

    def agent_steps(self) -> int:
        """As `env_steps`: one agent, the task, acts in each step."""
        return self.env_steps()


def forget_frames_before_reset(stacks: NDArray[Any], ages: NDArray[np.uint8]) -> None:
    """Zeroes, in place, what a stack must not show of the episode before.

    Args:
        stacks: `(*rows, k, *frame)`, oldest frame first.
        ages: `(*rows)`, steps since the environment's reset: so many frames before the newest are its own.
    """
    frame_stack = stacks.shape[ages.ndim]
    if (ages < frame_stack - 1).any():
        stacks[ages[..., None] + np.arange(frame_stack, dtype=np.uint8) < frame_stack - 1] = 0
