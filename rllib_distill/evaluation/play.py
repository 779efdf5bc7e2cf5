"""Playing for scores, outside of RLlib: one actor here, or many policies in parallel on Ray."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import ray
import torch
from ray import cloudpickle
from ray.rllib.core.rl_module.multi_rl_module import MultiRLModule

from rllib_distill.core.algorithm import MODULES_FOLDER
from rllib_distill.core.config import MultiTaskConfig
from rllib_distill.env_runner.actors import Actor, ExpertActor, RandomActor
from rllib_distill.env_runner.play import play_episodes, play_steps
from rllib_distill.env_runner.task_envs import EpisodeReturns, TaskEnvs
from rllib_distill.errors import DistillError
from rllib_distill.experts import ExpertBank
from rllib_distill.files import newest_checkpoint
from rllib_distill.tasks import TaskSet

_ALGORITHM_FILE = "class_and_ctor_args.pkl"

Who = Literal["policy", "expert", "distilled"]
"""Who acts: the tasks' policies, the experts that learned beside them, or the distilled policy."""

MakeActor = Callable[[TaskSet], Actor]
"""Makes an actor for tasks. It is small, travels to where the game is, and loads there what it needs."""


def random_actor(tasks: TaskSet) -> Actor:
    """Makes an actor of uniformly random actions."""
    return RandomActor({name: task.num_actions for name, task in tasks.items()})


def expert_actor(paths: Mapping[str, str], tasks: TaskSet) -> Actor:
    """Makes an actor of experts, each for its own task; `paths` maps tasks to the experts' files."""
    return ExpertActor(ExpertBank.load({task: paths[task] for task in tasks}, tasks))


def checkpoint_actor(checkpoint: str, who: Who, tasks: TaskSet) -> Actor:
    """Makes an actor of a checkpoint's policies, or of others that learned beside them."""
    return TrainedPolicies(checkpoint).actor(who)


class TrainedPolicies:
    """The modules of a checkpoint, loaded when they are asked to act."""

    def __init__(self, checkpoint: str | Path):
        """Reads the checkpoint's config.

        Args:
            checkpoint: The folder that `Algorithm.save_to_path` wrote.

        Raises:
            DistillError: The folder is no checkpoint, or one of an algorithm that has no tasks.
        """
        self.path = Path(checkpoint)
        try:
            content = (self.path / _ALGORITHM_FILE).read_bytes()
            made_by = cloudpickle.loads(content)
            (config, *_), _ = made_by["ctor_args_and_kwargs"]
        except OSError as error:
            inside = newest_checkpoint(self.path)
            if inside is not None:
                raise DistillError(
                    f"{self.path} is the folder of a trial; its checkpoint is {inside}: give that."
                ) from None
            raise DistillError(
                f"Cannot read the checkpoint {self.path}: {error.strerror}. Give a folder that training "
                "wrote, such as results/<experiment>/<trial>/checkpoint_000000."
            ) from None
        except Exception as error:  # unpickling may raise anything
            raise DistillError(
                f"{self.path} is not a whole checkpoint: {type(error).__name__}: {error}"
            ) from None
        self.algorithm: type[Any] = made_by["class"]
        default = self.algorithm.get_default_config()
        if not isinstance(default, MultiTaskConfig):
            raise DistillError(
                f"{self.path} is a checkpoint of {self.algorithm.__name__}, which has no tasks to play."
            )
        self.config: MultiTaskConfig = default.from_state(config) if isinstance(config, dict) else config

    def actor(self, who: Who = "policy") -> Actor:
        """Makes an actor of the checkpoint's policies, which acts for any of their tasks.

        Args:
            who: Which policies act.
        """
        modules: Any = MultiRLModule.from_checkpoint((self.path / MODULES_FOLDER).resolve())
        modules.foreach_module(lambda module_id, module: module.eval())
        return self.config.make_evaluated_policies(modules, torch.device("cpu"))[who]


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
