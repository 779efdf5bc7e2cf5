"""Playing for scores, outside of RLlib."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import ray
import torch

from rllib_distill.env_runner.actors import Actions, Actor, ask
from rllib_distill.env_runner.play import play_episodes, play_steps
from rllib_distill.env_runner.task_envs import EpisodeReturns, TaskEnvs
from rllib_distill.evaluation.players import Player
from rllib_distill.tasks import TaskSet

Scores = dict[str, dict[str, EpisodeReturns]]
"""Player -> task -> its episodes."""

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
        tasks: To play.
        actor: Who acts.
        num_envs: Environments per task, side by side; the actor was made for as many.
        num_episodes: Per task.
        num_steps: Per task, instead of `num_episodes`: an epoch, see `play_steps`.
        epsilon: Chance of a uniformly random legal action.
        seed: Of environments and chance. The same seed gives the same episodes.

    Returns:
        Task -> its episodes.
    """
    rng = np.random.default_rng(seed)
    envs = {name: TaskEnvs(task.spec.make_vector_env(num_envs)) for name, task in tasks.items()}

    def act(active: Mapping[str, TaskEnvs]) -> Actions:
        return ask(actor, active, epsilon, rng)

    try:
        for task_envs in envs.values():
            task_envs.reset(seed=seed)
        if num_steps is not None:
            epochs = play_steps(envs, act, num_steps)
            return {task: epoch.returns(task) for task, epoch in epochs.items()}
        episodes = play_episodes(envs, act, num_episodes or 0)
    finally:
        for task_envs in envs.values():
            task_envs.env.close()
    return {task: EpisodeReturns.of(task, played) for task, played in episodes.items()}


def play_in_parallel(
    players: Mapping[str, Player],
    tasks: TaskSet,
    *,
    num_episodes: int | None = None,
    num_steps: int | None = None,
    epsilon: float,
    seed: int,
    on_progress: Callable[[int, int], None] = lambda done, of: None,
) -> Scores:
    """Lets every player play every task, one task of one player per Ray task and CPU.

    Args:
        players: Name -> player.
        tasks: To play.
        num_episodes: Per player and task.
        num_steps: Per player and task, instead of `num_episodes`: an epoch in one environment.
        epsilon: Chance of a uniformly random legal action.
        seed: Environments of a task start alike for every player.
        on_progress: Told how many of how many games are finished.

    Returns:
        Player -> task -> its episodes.
    """
    names = {
        _play_remotely.remote(
            player, TaskSet({task: tasks[task]}), num_episodes, num_steps, epsilon, seed + i
        ): (name, task)
        for name, player in players.items()
        for i, task in enumerate(tasks)
    }
    done: dict[tuple[str, str], EpisodeReturns] = {}
    pending = list(names)
    on_progress(0, len(names))
    while pending:
        (ready, *_), pending = ray.wait(pending)
        done[names[ready]] = ray.get(ready)
        on_progress(len(done), len(names))
    return {name: {task: done[name, task] for task in tasks} for name in players}


@ray.remote(num_cpus=1)
def _play_remotely(
    player: Player,
    tasks: TaskSet,
    num_episodes: int | None,
    num_steps: int | None,
    epsilon: float,
    seed: int,
) -> Any:
    torch.set_num_threads(1)
    num_envs = 1 if num_episodes is None else min(num_episodes, _MOST_ENVS)
    scores = play(
        tasks,
        player.actor(tasks, num_envs),
        num_envs=num_envs,
        num_episodes=num_episodes,
        num_steps=num_steps,
        epsilon=epsilon,
        seed=seed,
    )
    return next(iter(scores.values()))
