"""Playing whole episodes, or epochs of a given number of steps, for evaluation."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from typing_extensions import override

from rllib_distill.env_runner.actors import Acting, Actor
from rllib_distill.env_runner.task_envs import Episode, EpisodeReturns, TaskEnvs

Played = TypeVar("Played")
Play = Callable[[Mapping[str, TaskEnvs], Actor, int, float, np.random.Generator], dict[str, Played]]
"""`play_episodes` or `play_steps`."""


@dataclass(frozen=True)
class EpochReturns(EpisodeReturns):
    """Returns of the episodes that count in one task's epoch.

    Attributes:
        steps: All steps that were played, those of episodes that do not count included.
        finished: Whether the episodes ended; if none did, the unfinished ones count.
    """

    steps: int
    finished: bool

    @override
    def env_steps(self) -> int:
        """Number of steps played, also in episodes that do not count: else RLlib would play on."""
        return self.steps


@dataclass(frozen=True)
class Epoch:
    """What one task's environments played. Attributes as in `EpochReturns`."""

    episodes: list[Episode]
    steps: int
    finished: bool

    def returns(self, task: str) -> EpochReturns:
        """The epoch in the form in which an env runner returns it."""
        return EpochReturns.of(task, self.episodes, steps=self.steps, finished=self.finished)


def play_episodes(
    envs: Mapping[str, TaskEnvs], actor: Actor, num_episodes: int, epsilon: float, rng: np.random.Generator
) -> dict[str, list[Episode]]:
    """Plays whole episodes of every task, from environments that were just reset.

    Every environment has the same quota of episodes (the first few have one more), since taking those that
    finish first would favour short ones. A task whose quotas are met is no longer stepped.

    Args:
        envs: Task -> its environments.
        actor: The actor.
        num_episodes: Number of episodes per task.
        epsilon: Probability of a random action.
        rng: Random numbers.

    Returns:
        Task -> `num_episodes` episodes.
    """
    episodes: dict[str, list[Episode]] = {task: [] for task in envs}
    left = {
        task: [num_episodes // e.num_envs + (b < num_episodes % e.num_envs) for b in range(e.num_envs)]
        for task, e in envs.items()
    }
    acting = Acting(actor, envs)
    active = dict(envs) if num_episodes > 0 else {}
    while active:
        actions = acting(active, epsilon, rng).actions
        for task, task_envs in list(active.items()):
            for episode in task_envs.step(actions[task]):
                if left[task][episode.env]:
                    left[task][episode.env] -= 1
                    episodes[task].append(episode)
            if not any(left[task]):
                del active[task]
    return episodes


def play_steps(
    envs: Mapping[str, TaskEnvs], actor: Actor, num_steps: int, epsilon: float, rng: np.random.Generator
) -> dict[str, Epoch]:
    """Plays an epoch of every task, from environments that were just reset, as Actor-Mimic's authors do.

    Episodes that end within the epoch count, and those that its end cuts off do not, unless no episode of a
    task ends (as in the official code's evaluation, with one environment and 125,000 steps). Environments
    side by side share the steps, so that more episodes are cut off, mostly long ones: play in one environment
    for scores like the papers'.

    Args:
        envs: Task -> its environments.
        actor: The actor.
        num_steps: Number of steps per task, at least 1; rounded up to the same number for each of its
            environments. Rows that merely reset an environment are no steps.
        epsilon: Probability of a random action.
        rng: Random numbers.

    Returns:
        Task -> its epoch.
    """
    share = {task: -(-num_steps // task_envs.num_envs) for task, task_envs in envs.items()}
    left = {task: [share[task]] * task_envs.num_envs for task, task_envs in envs.items()}
    ended: dict[str, list[Episode]] = {task: [] for task in envs}
    epochs: dict[str, Epoch] = {}
    acting = Acting(actor, envs)
    while active := {task: task_envs for task, task_envs in envs.items() if task not in epochs}:
        actions = acting(active, epsilon, rng).actions
        for task, task_envs in active.items():
            for episode in task_envs.step(actions[task]):
                in_time = episode.length <= left[task][episode.env]
                left[task][episode.env] -= episode.length if in_time else left[task][episode.env]
                ended[task] += [episode] if in_time else []
            begun = task_envs.unfinished_episodes()
            if all(episode.length >= left[task][episode.env] for episode in begun):
                # Where no episode ended, no row was a mere reset, so all environments are done in this row.
                steps = share[task] * task_envs.num_envs
                epochs[task] = Epoch(ended[task] or begun, steps, finished=bool(ended[task]))
    return {task: epochs[task] for task in envs}
