"""An invented vector env that writes fragments and, beside them, the plain list of transitions they mean."""

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
    """`num_envs` environments whose observations are unique: (environment, episode, step) and the source."""

    def __init__(self, mode=SAME_STEP, *, num_envs=3, source=0, dtype=np.uint8, seed=0, task="task"):
        self.mode, self.num_envs, self.source, self.dtype, self.task = mode, num_envs, source, dtype, task
        self.rng = np.random.default_rng([seed, source])
        self.clock = 0
        self.position = [[0, 0] for _ in range(num_envs)]  # episode, step
        self.ended = [False] * num_envs
        self.begins = [True] * num_envs  # of the current observations

    def observe(self, b):
        episode, step = self.position[b]
        numbers = np.array([b + 16 * self.source, episode, step], np.uint8)
        if self.dtype == np.bool_:
            return np.append(np.unpackbits(numbers), 1).astype(np.bool_)  # 25: no multiple of 8
        return numbers.astype(self.dtype)

    def reset(self):
        """All environments start anew, and the clock jumps."""
        self.position = [[episode + 1, 0] for episode, _ in self.position]
        self.ended = [False] * self.num_envs
        self.begins = [True] * self.num_envs
        self.clock += 1

    def play(self, steps):
        """A fragment of `steps` rows, and its slots."""
        first = np.stack([self.observe(b) for b in range(self.num_envs)])
        fragment = Fragment.empty(self.task, self.source, self.clock, steps, first)
        fragment.first_begins[:] = self.begins
        slots = [[self._step(fragment, t, b) for b in range(self.num_envs)] for t in range(steps)]
        fragment.labels = {"label": self._labels(fragment)}
        self.clock += steps
        return fragment, slots

    def _labels(self, fragment):
        return label_of(fragment.observations[:-1])[..., None]

    def _step(self, fragment, t, b):
        before, action = self.observe(b), int(self.rng.integers(0, 5))
        reward = float(np.float32(self.rng.normal()))
        fragment.actions[t, b] = action
        if self.ended[b]:  # NEXT_STEP: this row resets
            self._next_episode(b)
            self._write(fragment, t, b, 0.0, False, False, valid=False)
            self.ended[b], self.begins[b] = False, True
            return None
        self.begins[b] = False
        self.position[b][1] += 1
        terminated, truncated = (bool(x) for x in self.rng.random(2) < 0.15)
        after = self.observe(b)
        if self.mode == NEXT_STEP:
            self.ended[b] = terminated or truncated
        elif terminated or truncated:
            self._next_episode(b)
            self.begins[b] = True
            if truncated:
                fragment.final_observations[t, b] = after
        self._write(fragment, t, b, reward, terminated, truncated, valid=True)
        return Transition(before, action, reward, after, terminated, truncated, float(label_of(before)))

    def _next_episode(self, b):
        self.position[b] = [self.position[b][0] + 1, 0]

    def _write(self, fragment, t, b, reward, terminated, truncated, valid):
        fragment.observations[t + 1, b] = self.observe(b)
        fragment.rewards[t, b] = reward
        fragment.terminations[t, b] = terminated
        fragment.truncations[t, b] = truncated
        fragment.valid[t, b] = valid


def label_of(observations):
    """A number that belongs to one observation only."""
    weights = np.sin(np.arange(1, observations.shape[-1] + 1))
    return (observations * weights).sum(-1).astype(np.float32)


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
