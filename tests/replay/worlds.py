"""An invented vector env that writes fragments and, beside them, the plain lists of steps they mean."""

from collections import deque
from dataclasses import dataclass
from typing import Any

import numpy as np

from rllib_distill.replay.fragment import Fragment

SAME_STEP, NEXT_STEP = "same_step", "next_step"


@dataclass(frozen=True)
class Transition:
    """One step of one environment, as the learner should see it."""

    observation: Any
    action: int
    reward: float
    next_observation: Any
    terminated: bool
    truncated: bool
    label: float


Slot = list[Transition | None]
"""One row of time: per environment its transition, or None where the row only reset it."""


class World:
    """`num_envs` environments whose frames are unique: (environment, episode, step) and the env runner.

    With `loses_lives` some terminations, which learners take for an episode's end, leave the game going on.
    Recurrent states are random numbers, `state_size` of them per environment and fragment.
    """

    def __init__(
        self,
        mode=SAME_STEP,
        *,
        num_envs=3,
        env_runner_index=0,
        dtype=np.uint8,
        seed=0,
        task="task",
        frame_stack=1,
        loses_lives=False,
        state_size=0,
    ):
        self.mode, self.num_envs, self.env_runner_index = mode, num_envs, env_runner_index
        self.dtype, self.task, self.frame_stack, self.loses_lives = dtype, task, frame_stack, loses_lives
        self.rng = np.random.default_rng([seed, env_runner_index])
        self.state_size = state_size
        self.clock = 0
        self.position = [[1, 0] for _ in range(num_envs)]  # episode, step
        self.ended = [False] * num_envs
        self.is_first = [True] * num_envs  # of the current observations
        self.frames = [deque(maxlen=frame_stack) for _ in range(num_envs)]  # those since the reset
        for b in range(num_envs):
            self._show(b)

    def observe(self, b):
        """The newest frame, or a stack of them, oldest first, with zeros for those before the reset."""
        if self.frame_stack == 1:
            return self.frames[b][-1]
        missing = self.frame_stack - len(self.frames[b])
        return np.stack([np.zeros_like(self.frames[b][0])] * missing + [*self.frames[b]], axis=-1)

    def reset(self):
        """All environments start anew, and the clock jumps."""
        for b in range(self.num_envs):
            self._next_episode(b)
        self.ended = [False] * self.num_envs
        self.is_first = [True] * self.num_envs
        self.clock += 1

    def play(self, steps):
        """A fragment of `steps` rows, and its slots."""
        first = np.stack([self.observe(b) for b in range(self.num_envs)])
        fragment = Fragment.empty(
            self.task, self.env_runner_index, self.clock, steps, first, frame_stack=self.frame_stack
        )
        fragment.is_first[0] = self.is_first
        fragment.steps_since_reset[0] = [len(frames) - 1 for frames in self.frames]
        fragment.state = self.rng.normal(size=(self.num_envs, self.state_size)).astype(np.float32)
        slots = [[self._step(fragment, t, b) for b in range(self.num_envs)] for t in range(steps)]
        fragment.columns = {"label": label_of(fragment.frames[self.frame_stack - 1 : -1])[..., None]}
        self.clock += steps
        return fragment, slots

    def _step(self, fragment, t, b):
        before, label = self.observe(b), float(label_of(self.frames[b][-1]))
        action, reward = int(self.rng.integers(0, 5)), float(np.float32(self.rng.normal()))
        fragment.actions[t, b] = action
        if self.ended[b]:  # NEXT_STEP: this row resets
            self._next_episode(b)
            self.ended[b], self.is_first[b] = False, True
            self._write(fragment, t, b, 0.0, False, False, valid=False)
            return None
        self.is_first[b] = False
        self.position[b][1] += 1
        self._show(b)
        terminated, truncated = (bool(x) for x in self.rng.random(2) < 0.15)
        after = self.observe(b)
        if terminated and not truncated and self.loses_lives and self.rng.random() < 0.5:
            self.is_first[b] = True
        elif self.mode == NEXT_STEP:
            self.ended[b] = terminated or truncated
        elif terminated or truncated:
            self._next_episode(b)
            self.is_first[b] = True
            if truncated:
                fragment.final_observations[t, b] = after
        self._write(fragment, t, b, reward, terminated, truncated, valid=True)
        return Transition(before, action, reward, after, terminated, truncated, label)

    def _next_episode(self, b):
        self.position[b] = [self.position[b][0] + 1, 0]
        self.frames[b].clear()
        self._show(b)

    def _show(self, b):
        numbers = np.array([b + 16 * self.env_runner_index, *self.position[b]], np.uint8)
        if self.dtype == np.bool_:  # 25 of them: no multiple of 8
            frame = np.append(np.unpackbits(numbers), 1).astype(np.bool_)
        else:
            frame = numbers.astype(self.dtype)
        self.frames[b].append(frame)

    def _write(self, fragment, t, b, reward, terminated, truncated, valid):
        fragment.frames[t + self.frame_stack, b] = self.frames[b][-1]
        fragment.steps_since_reset[t + 1, b] = len(self.frames[b]) - 1
        fragment.is_first[t + 1, b] = self.is_first[b]
        fragment.rewards[t, b] = reward
        fragment.terminations[t, b] = terminated
        fragment.truncations[t, b] = truncated
        fragment.valid[t, b] = valid


def label_of(frames):
    """A number that belongs to one frame only."""
    weights = np.sin(np.arange(1, frames.shape[-1] + 1))
    return (frames * weights).sum(-1).astype(np.float32)


COLUMNS = ("observations", "next_observations", "actions", "rewards", "terminations", "truncations", "label")


def check_rows(rows, transitions):
    """Asserts that every drawn row is one of the transitions; returns how often each was drawn."""
    by_observation = {t.observation.tobytes(): (i, t) for i, t in enumerate(transitions)}
    assert len(by_observation) == len(transitions)
    counts = np.zeros(len(transitions), int)
    for j, observation in enumerate(rows["observations"]):
        i, expected = by_observation[observation.tobytes()]
        counts[i] += 1
        assert rows["actions"][j] == expected.action
        assert rows["rewards"][j] == np.float32(expected.reward)
        assert rows["terminations"][j] == expected.terminated
        assert rows["truncations"][j] == expected.truncated
        assert rows["label"][j] == expected.label
        if expected.truncated or not expected.terminated:  # what comes after a terminal state is never read
            assert (rows["next_observations"][j] == expected.next_observation).all(), expected
    return counts


def n_step_of(slots, n_step, gamma):
    """First observation -> return, discount of the value after it, last transition, number of steps: a walk.

    Args:
        slots: Of one env runner, with a slot of Nones in every gap.
        n_step: At most so many steps.
        gamma: Discount factor.
    """
    found = {}
    for row, slot in enumerate(slots):
        for b in range(len(slot)):
            total, steps, transition = 0.0, 0, None
            while steps < n_step and row + steps < len(slots) and slots[row + steps][b] is not None:
                transition = slots[row + steps][b]
                total += gamma**steps * transition.reward
                steps += 1
                if transition.terminated or transition.truncated:
                    break
            if transition is not None:
                discount = 0.0 if transition.terminated else gamma**steps
                found[slot[b].observation.tobytes()] = total, discount, transition, steps
    return found


@dataclass(frozen=True)
class Row:
    """One environment at one time step of a `History`; what the step did is told where there was one."""

    observation: Any
    is_first: bool
    step: tuple[Any, ...] | None = None  # action, reward, terminated, truncated, label
    final: Any = None


STEP_COLUMNS = ("actions", "rewards", "terminations", "truncations", "label")


class History:
    """What a ring of `rows` should know of one env runner's fragments, in plain lists.

    A time step is a list of a `Row` per environment, or None: the older frames of the first stacks after a
    gap lie there.
    """

    def __init__(self, rows):
        self.rows = rows
        self.times, self.fragments = [], {}
        self.newest = self.next_start = None

    def add(self, fragment):
        begins_anew = fragment.start != self.next_start
        if begins_anew:
            self.times += [] if self.newest is None else [self.newest]
            self.times += [None] * (fragment.frame_stack - 1)
        self.next_start = fragment.start + len(fragment)
        self.fragments[len(self.times)] = fragment
        observations = fragment.observations.copy()
        for t in range(len(fragment)):
            self.times.append(
                [
                    Row(
                        observations[t, b],
                        bool(fragment.is_first[t, b]) or (t == 0 and begins_anew),
                        tuple(_columns_of(fragment, t, b)) if fragment.valid[t, b] else None,
                        fragment.final_observations.get((t, b)),
                    )
                    for b in range(fragment.num_envs)
                ]
            )
        self.newest = [
            Row(observations[-1, b], bool(fragment.is_first[-1, b])) for b in range(fragment.num_envs)
        ]

    def sequences(self, length):
        """First observation -> the sequence `(rows, the row after them, state)` of all that there are."""
        found = {}
        for start, fragment in self.fragments.items():
            if start < len(self.times) - (self.rows - fragment.frame_stack):
                continue  # overwritten
            times = [*self.times[start:], self.newest]
            if len(times) <= length:
                continue
            for b in range(fragment.num_envs):
                rows = [None if time is None else time[b] for time in times[: length + 1]]
                rows[0] = Row(rows[0].observation, bool(fragment.is_first[0, b]), rows[0].step, rows[0].final)
                found[rows[0].observation.tobytes()] = (rows, fragment.state[b])
        return found


def _columns_of(fragment, t, b):
    for name in STEP_COLUMNS:
        column = fragment.columns["label"][..., 0] if name == "label" else getattr(fragment, name)
        yield column[t, b].item()


def check_sequences(drawn, finals, expected):
    """Asserts that what was drawn are some of the expected sequences; returns the keys, in order.

    Args:
        drawn: Column -> `(T, size, ...)`, of `STEP_COLUMNS` and what sequences always have.
        finals: `(t, i) -> observation`.
        expected: Of `History.sequences`, of all env runners.
    """
    length, size = drawn["actions"].shape
    expected_finals, keys = {}, []
    for i in range(size):
        keys.append(drawn["observations"][0, i].tobytes())
        rows, state = expected[keys[-1]]
        np.testing.assert_array_equal(drawn["state"][i], state)
        for t, row in enumerate(rows):
            if row is not None:
                np.testing.assert_array_equal(drawn["observations"][t, i], row.observation)
                assert drawn["is_first"][t, i] == row.is_first, (t, row)
            if t < length:
                step = None if row is None else row.step
                assert drawn["valid"][t, i] == (step is not None)
                if step is not None:
                    assert tuple(drawn[name][t, i].item() for name in STEP_COLUMNS) == step
                    if row.final is not None:
                        expected_finals[t, i] = row.final
    assert finals.keys() == expected_finals.keys()
    for at, observation in finals.items():
        np.testing.assert_array_equal(observation, expected_finals[at])
    return keys
