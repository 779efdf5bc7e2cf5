"""Environments whose observations tell where they come from, and random experts for any tasks."""

import gymnasium as gym
import numpy as np
import torch
from gymnasium.spaces import Box, Discrete
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from rllib_distill.experts import Expert, ExpertInfo
from rllib_distill.networks import build_network
from rllib_distill.tasks import TaskSet


class CountingEnv(gym.Env):
    """Observations are (identity, episode, step, 0, ...); identities and lengths come from the seed.

    The reward of step k (the first is 1) of episode e is `k + 100 e`. Episodes end by themselves
    (`ends="terminated"`), by a time limit ("truncated"), or by either ("both", in turn).
    """

    def __init__(self, size=3, num_actions=2, ends="both", max_length=5, length=None):
        self.observation_space = Box(-1e6, 1e6, (size,), np.float32)
        self.action_space = Discrete(num_actions)
        self.ends, self.max_length, self.length = ends, max_length, length
        self.identity, self.episode = None, 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        if seed is not None or self.identity is None:
            self.identity = int(self.np_random.integers(1000))
        self.episode += 1
        self.step_count = 0
        self.episode_length = self.length or int(self.np_random.integers(1, self.max_length + 1))
        return self._observation(), {}

    def step(self, action):
        assert self.action_space.contains(np.int64(action)), f"{action} is illegal"
        self.step_count += 1
        over = self.step_count >= self.episode_length
        terminated = over and (self.ends == "terminated" or (self.ends == "both" and self.episode % 2 == 0))
        reward = reward_of(self.episode, self.step_count)
        return self._observation(), reward, terminated, over and not terminated, {}

    def _observation(self):
        observation = np.zeros(self.observation_space.shape, np.float32)
        observation[:3] = self.identity, self.episode, self.step_count
        return observation


class LivesEnv(SyncVectorEnv):
    """Of three games, whose learners see a third of the steps as an end."""

    def __init__(self):
        super().__init__([CountingEnv] * 3, copy=False, autoreset_mode=AutoresetMode.SAME_STEP)
        self.rng = np.random.default_rng(0)

    def step(self, actions):
        observations, rewards, terminations, truncations, infos = super().step(actions)
        lost = terminations | (self.rng.random(3) < 1 / 3)
        return observations, rewards, terminations, truncations, {**infos, "training_terminations": lost}


class NamedEnv(CountingEnv):
    """Its actions have names, so that the same action has different numbers in different tasks."""

    def __init__(self, meanings="nf", **options):
        super().__init__(num_actions=len(meanings), **options)
        self.meanings = meanings

    def get_action_meanings(self):
        return list(self.meanings)


NAMED_TASKS = {  # the common actions are n, u, d, f
    "short": {"env": NamedEnv, "env_config": {"size": 3, "meanings": "fn"}},
    "long": {"env": NamedEnv, "env_config": {"size": 5, "meanings": "nudf", "max_length": 9}},
}


def reward_of(episode, step):
    return float(step + 100 * episode)


def return_of(episode, length):
    return sum(reward_of(episode, step) for step in range(1, length + 1))


def check_fragment(fragment, *, next_step):
    """Asserts that every valid row is one step within one episode, and that only such rows are valid."""
    for b in range(fragment.actions.shape[1]):
        for t in range(len(fragment)):
            before, after = fragment.observations[t, b], fragment.observations[t + 1, b]
            terminated, truncated = fragment.terminations[t, b], fragment.truncations[t, b]
            if not fragment.valid[t, b]:
                assert next_step, "only NEXT_STEP autoreset has rows that are none"
                assert after[1] == before[1] + 1 and after[2] == 0
                continue
            if not next_step and (terminated or truncated):
                assert after[1] == before[1] + 1 and after[2] == 0
                after = fragment.final_observations[t, b] if truncated else None
            if after is not None:
                assert (after[:3] - before[:3]).tolist() == [0, 0, 1]
            assert fragment.rewards[t, b] == reward_of(before[1], before[2] + 1)
    assert fragment.final_observations.keys() == (
        set()
        if next_step
        else set(zip(*map(np.ndarray.tolist, np.nonzero(fragment.truncations)), strict=True))
    )


def save_random_experts(folder, tasks, *, network=None, expected_return=None):
    """Writes an expert with random weights for every task; returns task -> path."""
    paths = {}
    for i, (name, task) in enumerate(TaskSet.from_config(tasks).items()):
        torch.manual_seed(i)
        config = network or {"type": "mlp", "hiddens": [5 + i]}
        info = ExpertInfo.for_task(
            task, kind="q_values", network=config, made_by={}, expected_return=expected_return
        )
        paths[name] = folder / f"{name}.safetensors"
        weights = build_network(config, task.observation_space.shape, task.num_actions).state_dict()
        Expert(info, weights).save(paths[name])
    return paths
