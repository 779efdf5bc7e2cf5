"""Small tasks with one observation per state, which a linear network solves exactly; their training."""

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box, Discrete

from tests.learners import learner_of

LINEAR = {"type": "linear"}


def quick(config):
    return (
        config.env_runners(num_env_runners=0, rollout_fragment_length=20)
        .reporting(min_time_s_per_iteration=0)
        .debugging(seed=0, log_level="ERROR")
    )


def train_until(algo, num_updates):
    """Trains, and returns the modules."""
    learner = learner_of(algo)
    while learner.num_updates < num_updates:
        algo.train()
    return learner.module


class Walk(gym.Env):
    """Six states in a row; actions go left, right and (if there are three) stay. Never ends by itself.

    Args:
        num_actions: 2 or 3.
        first: Where this walk's states begin in the observation, so that several tell their task.
        size: Of the observation.
    """

    def __init__(self, num_actions=3, first=0, size=6):
        self.observation_space = Box(0.0, 1.0, (size,), np.float32)
        self.action_space = Discrete(num_actions)
        self.first = first

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.state = int(self.np_random.integers(6))
        return self.observe(), {}

    def step(self, action):
        self.state = int(np.clip(self.state + (-1, 1, 0)[action], 0, 5))
        return self.observe(), 0.0, False, False, {}

    def observe(self):
        return np.eye(self.observation_space.shape[0], dtype=np.float32)[self.first + self.state]


class Corridor(Walk):
    """Right of the last state is the goal, worth 1; left of the first is a trap, worth 0.3."""

    def __init__(self):
        super().__init__(num_actions=2)

    def step(self, action):
        goal, trap = self.state == 5 and action == 1, self.state == 0 and action == 0
        observation, *_ = super().step(action)
        return observation, 1.0 * goal + 0.3 * trap, goal or trap, False, {}


class Income(Walk):
    """Every step is worth 1, whatever is done; a time limit cuts the episodes off."""

    def step(self, action):
        observation, *_ = super().step(action)
        return observation, 1.0, False, False, {}
