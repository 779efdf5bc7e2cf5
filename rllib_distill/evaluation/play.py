"""Playing for scores, outside of RLlib: one actor here, or many policies in parallel on Ray."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import ray
import torch

from rllib_distill.env_runner.actors import Actor
from rllib_distill.env_runner.play import play_episodes, play_steps
from rllib_distill.env_runner.task_envs import EpisodeReturns, TaskEnvs
from rllib_distill.evaluation.policies import MakeActor
from rllib_distill.tasks import TaskSet

_MOST_ENVS = 25  # side by side, per task


def play(
    tasks: TaskSet,
    actor: Actor,
    *,
    num_envs: int,
    num_episodes: int | None = None,
    num_steps: int | None = None,
    epsilon: float,
    seed: int,
) -> dict[str, EpisodeReturns]:
    """Plays a number of whole episodes, or of steps; returns are undiscounted and unclipped.

    Args:
        tasks: The tasks to play.
        actor: Chooses the actions.
        num_envs: Environments per task, side by side.
        num_episodes: Episodes per task.
        num_steps: Steps per task, instead of `num_episodes`: an epoch, see `play_steps`.
        epsilon: Chance of a uniformly random legal action.
        seed: Seeds environments and chance. The same seed gives the same episodes.

    Returns:
        Task -> its episodes.
    """
    rng = np.random.default_rng(seed)
    envs = {name: TaskEnvs(task.spec.make_vector_env(num_envs)) for name, task in tasks.items()}

    try:
        for task_envs in envs.values():
            task_envs.reset(seed=seed)
        if num_steps is not None:
            epochs = play_steps(envs, actor, num_steps, epsilon, rng)
            return {task: epoch.returns(task) for task, epoch in epochs.items()}
        episodes = play_episodes(envs, actor, num_episodes or 0, epsilon, rng)
    finally:
        for task_envs in envs.values():
            task_envs.env.close()
    return {task: EpisodeReturns.of(task, played) for task, played in episodes.items()}


def play_in_parallel(
    policies: Mapping[str, MakeActor],
    tasks: TaskSet,
    *,
    seed: int,
    on_progress: Callable[[int, int], None] = lambda done, of: None,
    **how: Any,
) -> dict[str, dict[str, EpisodeReturns]]:
    """Lets every policy play every task: one task of one policy is one Ray task, on one CPU.

    Args:
        policies: Maps the name of a policy to what makes its actor.
        tasks: The tasks to play.
        seed: Seeds environments and chance; the environments of a task start alike for every policy.
        on_progress: Is told how many of how many games are finished.
        how: `epsilon`, and `num_episodes` or `num_steps`, as `play` takes them. Steps are an epoch in one
            environment.

    Returns:
        Name of the policy -> task -> its episodes.
    """
    games = {
        _play_remotely.remote(make_actor, TaskSet({task: tasks[task]}), seed=seed + i, **how): (name, task)
        for name, make_actor in policies.items()
        for i, task in enumerate(tasks)
    }
    done: dict[tuple[str, str], EpisodeReturns] = {}
    pending = list(games)
    on_progress(0, len(games))
    while pending:
        (ready, *_), pending = ray.wait(pending)
        done[games[ready]] = ray.get(ready)
        on_progress(len(done), len(games))
    return {name: {task: done[name, task] for task in tasks} for name in policies}


@ray.remote(num_cpus=1)
def _play_remotely(make_actor: MakeActor, tasks: TaskSet, **how: Any) -> Any:
    torch.set_num_threads(1)
    num_envs = min(how.get("num_episodes") or 1, _MOST_ENVS)
    (played,) = play(tasks, make_actor(tasks), num_envs=num_envs, **how).values()
    return played
