"""Playing for scores, outside of RLlib: which policies can play, and how they play every task in parallel."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import ray
import torch

from rllib_distill.evaluation.policies import TrainedPolicies, Who
from rllib_distill.experts import ExpertBank
from rllib_distill.sampling import EpisodeReturns
from rllib_distill.sampling.actors import Actions, Actor, ExpertActor, RandomActor, ask
from rllib_distill.sampling.play import play_episodes, play_steps
from rllib_distill.sampling.task_envs import TaskEnvs
from rllib_distill.tasks import TaskSet

_MOST_ENVS = 25  # side by side, per task


class EvaluatedPolicy(Protocol):
    """A policy that can play; it is small, travels to where the game is, and loads there what it needs."""

    def actor(self, tasks: TaskSet, num_envs: int) -> Actor:
        """Makes an actor for `tasks`, with `num_envs` environments of each."""


@dataclass(frozen=True)
class RandomPolicy:
    """Uniformly random actions."""

    def actor(self, tasks: TaskSet, num_envs: int) -> Actor:
        """Makes an actor that draws from the actions of each task."""
        return RandomActor({name: task.num_actions for name, task in tasks.items()})


@dataclass(frozen=True)
class ExpertPolicy:
    """The experts of files, each on its own task.

    Attributes:
        paths: Maps each task to its expert's file.
    """

    paths: Mapping[str, str]

    def actor(self, tasks: TaskSet, num_envs: int) -> Actor:
        """Loads the experts of `tasks`, and makes an actor that asks them."""
        experts = ExpertBank.load({task: self.paths[task] for task in tasks}, tasks)
        return ExpertActor(lambda task, observations: experts.label(task, observations)[0])


@dataclass(frozen=True)
class CheckpointPolicy:
    """The policies of a checkpoint, or others that learned beside them.

    Attributes:
        checkpoint: The checkpoint's folder.
        who: Which of its policies play.
    """

    checkpoint: str
    who: Who = "policies"

    def actor(self, tasks: TaskSet, num_envs: int) -> Actor:
        """Loads the policies of `tasks`, and makes an actor that asks them."""
        return TrainedPolicies(self.checkpoint).actor(tasks, num_envs, self.who)


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
        num_envs: Environments per task, side by side; the actor was made for as many.
        num_episodes: Episodes per task.
        num_steps: Steps per task, instead of `num_episodes`: an epoch, see `play_steps`.
        epsilon: Chance of a uniformly random legal action.
        seed: Seeds environments and chance. The same seed gives the same episodes.

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
    policies: Mapping[str, EvaluatedPolicy],
    tasks: TaskSet,
    *,
    num_episodes: int | None = None,
    num_steps: int | None = None,
    epsilon: float,
    seed: int,
    on_progress: Callable[[int, int], None] = lambda done, of: None,
) -> dict[str, dict[str, EpisodeReturns]]:
    """Lets every policy play every task: one task of one policy is one Ray task, on one CPU.

    Args:
        policies: Maps a name to the policy.
        tasks: The tasks to play.
        num_episodes: Episodes per policy and task.
        num_steps: Steps per policy and task, instead of `num_episodes`: an epoch in one environment.
        epsilon: Chance of a uniformly random legal action.
        seed: The environments of a task start alike for every policy.
        on_progress: Is told how many of how many games are finished.

    Returns:
        Name of the policy -> task -> its episodes.
    """
    games = {
        _play_remotely.remote(
            policy, TaskSet({task: tasks[task]}), num_episodes, num_steps, epsilon, seed + i
        ): (name, task)
        for name, policy in policies.items()
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
def _play_remotely(
    policy: EvaluatedPolicy,
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
        policy.actor(tasks, num_envs),
        num_envs=num_envs,
        num_episodes=num_episodes,
        num_steps=num_steps,
        epsilon=epsilon,
        seed=seed,
    )
    return next(iter(scores.values()))
