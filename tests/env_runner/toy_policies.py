"""Actors and networks with a state that is easy to follow, for tasks of `counting_env`."""

from types import SimpleNamespace

import numpy as np
import torch
from gymnasium.vector import SyncVectorEnv

from rllib_distill.env_runner.actors import Acted, NetworkActor
from rllib_distill.env_runner.task_envs import TaskEnvs
from rllib_distill.tasks import TaskSet
from tests.env_runner.counting_env import NAMED_TASKS, NamedEnv

SPACES = TaskSet.from_config(NAMED_TASKS).shared()
TASKS = tuple(NAMED_TASKS)
STATE_SIZE = 2


class ToyPolicies:
    """A leaky sum of what an episode has shown; each task has weights of its own.

    Attributes:
        asked: The tasks of every forward.
    """

    def __init__(self):
        generator = torch.Generator().manual_seed(0)
        size, num_actions = SPACES.observation_space.shape[0], SPACES.num_actions
        self.to_state = {task: torch.randn(size, STATE_SIZE, generator=generator) for task in TASKS}
        self.to_logits = {task: torch.randn(STATE_SIZE, num_actions, generator=generator) for task in TASKS}
        self.asked = []

    def over_time(self, observations, tasks, state, is_first):
        """`(N, T, B, ...)` -> logits `(N, T, B, A)` and states `(N, T, B, S)`."""
        self.asked.append(tasks)
        into = torch.stack([self.to_state[task] for task in tasks])[:, None]
        out = torch.stack([self.to_logits[task] for task in tasks])[:, None]
        seen = torch.sin(observations.float()) @ into
        states = []
        for t in range(observations.shape[1]):
            state = 0.7 * state.masked_fill(is_first[:, t, :, None], 0.0) + seen[:, t]
            states.append(state)
        states = torch.stack(states, 1)
        return states @ out, states

    def __call__(self, observations, tasks, state, is_first):
        """A `Forward`."""
        logits, states = self.over_time(observations, tasks, state, is_first)
        return logits[:, 0], states[:, 0]

    def log_probs(self, batch):
        """log pi(a|s) of what was done, `(N, T, B)`, over legal actions."""
        rows = batch.observations[:, :-1], batch.tasks, batch.state, batch.is_first
        logits = self.over_time(*rows)[0]
        logits = logits.masked_fill(~batch.legal_of(logits), -torch.inf)
        return logits.log_softmax(-1).gather(-1, batch.columns["actions"][..., None])[..., 0]


def make_actor(forward, *, draws=True):
    return NetworkActor(forward, SPACES, state_size=STATE_SIZE, draws=draws)


class Always:
    """Always takes the same action, and remembers for which tasks it was asked to; its state counts that."""

    def __init__(self, action, state_size=0):
        self.action, self.state_size, self.asked = action, state_size, []

    def first_state(self, task, num_envs):
        return torch.zeros(num_envs, self.state_size)

    def __call__(self, rows, state, epsilon, rng):
        self.asked.append(tuple(rows))
        actions = {task: np.full(len(row.is_first), self.action) for task, row in rows.items()}
        columns = {task: {f"of_{self.action}": actions[task]} for task in rows}
        if self.state_size:  # else the state comes back as it is, as from a network without one
            state = {task: state[task] + 1 for task in rows}
        return Acted(actions, state, columns)


def rows_of(observations, begins=True):
    """Rows at the beginning of games, or in their middle."""
    is_first, is_reset = np.full((2, len(observations)), begins)
    return SimpleNamespace(observations=observations, is_first=is_first, is_reset=is_reset)


def make_envs(mode, num_envs=3):
    """Task -> its environments, of the two tasks of `counting_env`."""
    made = {}
    for i, (task, settings) in enumerate(NAMED_TASKS.items()):
        makers = [lambda options=settings["env_config"]: NamedEnv(**options)] * num_envs
        made[task] = TaskEnvs(SyncVectorEnv(makers, copy=False, autoreset_mode=mode))
        made[task].reset(seed=10 * i)
    return made
