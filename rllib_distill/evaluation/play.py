"""Plays episodes for evaluation: one actor in this process, or many policies in parallel on Ray."""

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
"""Whose policies act: `policy` is the student or the tasks' own policies, `expert` the experts that were
trained together with the student, `distilled` the distilled policy."""

MakeActor = Callable[[TaskSet], Actor]
"""Makes the actor for some tasks. Ray sends the function to another process, where it loads the networks."""


def random_actor(tasks: TaskSet) -> Actor:
    """Makes an actor that takes uniformly random actions in these tasks."""
    return RandomActor({name: task.num_actions for name, task in tasks.items()})


def expert_actor(paths: Mapping[str, str], tasks: TaskSet) -> Actor:
    """Makes an actor that plays each task with its expert.

    Args:
        paths: Maps each task to the path of its expert's file.
        tasks: The tasks to play.

    Raises:
        DistillError: A file cannot be read, or an expert does not fit its task.
    """
    return ExpertActor(ExpertBank.load({task: paths[task] for task in tasks}, tasks))


def checkpoint_actor(checkpoint: str, who: Who, tasks: TaskSet) -> Actor:
    """Makes an actor that plays with a checkpoint's policies.

    Args:
        checkpoint: The path of the checkpoint's folder.
        who: Which of its policies act.
        tasks: Not used, since the policies can act for all tasks of the checkpoint.

    Raises:
        DistillError: The checkpoint cannot be read.
    """
    return TrainedPolicies(checkpoint).actor(who)


class TrainedPolicies:
    """The policies in a checkpoint.

    Attributes:
        path: The checkpoint's folder.
        algorithm: The class of the algorithm that wrote it.
        config: The algorithm's config.
    """

    def __init__(self, checkpoint: str | Path):
        """Reads the algorithm's class and config; only `actor` loads the networks.

        Args:
            checkpoint: The folder that `Algorithm.save_to_path` wrote.

        Raises:
            DistillError: The folder is not a checkpoint, or not one of a multi-task algorithm.
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
        """Loads the networks and makes an actor, which can act for any task of the checkpoint.

        Args:
            who: Which policies act.

        Raises:
            KeyError: The checkpoint has no such policies.
        """
        modules: Any = MultiRLModule.from_checkpoint((self.path / MODULES_FOLDER).resolve())
        modules.foreach_module(lambda module_id, module: module.eval())
        return self.config.make_evaluated_policies(modules, torch.device("cpu"))[who]


_MOST_ENVS = 25  # most environments per task that `play_in_parallel` steps together


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
    """Plays a number of whole episodes, or of steps, of every task.

    Args:
        tasks: The tasks to play.
        actor: Chooses the actions.
        num_envs: Number of environments per task that are stepped together.
        num_episodes: Number of episodes per task.
        num_steps: Number of steps per task (an epoch, see `play_steps`), instead of `num_episodes`.
        epsilon: Probability of a uniformly random legal action.
        seed: Seed of the environments and of random actions. The same seed gives the same episodes.

    Returns:
        Task -> its episodes' returns, undiscounted and unclipped, and lengths in steps.

    Raises:
        DistillError: Neither `num_episodes` nor `num_steps` is given, or both are.
    """
    if (num_episodes is None) == (num_steps is None):
        raise DistillError(
            f"num_episodes is {num_episodes} and num_steps is {num_steps}; exactly one of them says how much "
            "is played."
        )
    rng = np.random.default_rng(seed)
    envs = {name: TaskEnvs(task.spec.make_vector_env(num_envs)) for name, task in tasks.items()}

    try:
        for task_envs in envs.values():
            task_envs.reset(seed=seed)
        if num_steps is not None:
            epochs = play_steps(envs, actor, num_steps, epsilon, rng)
            return {task: epoch.returns(task) for task, epoch in epochs.items()}
        assert num_episodes is not None  # checked above
        episodes = play_episodes(envs, actor, num_episodes, epsilon, rng)
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
    """Lets every policy play every task; each pair of them is a Ray task on one CPU.

    Args:
        policies: Maps the name of each policy to the function that makes its actor.
        tasks: The tasks to play.
        seed: Seed of environments and random actions; every policy plays the i-th task with `seed + i`.
        on_progress: Is called with the number of finished pairs and the number of all pairs.
        how: The arguments `epsilon`, and `num_episodes` or `num_steps`, of `play`. Steps are played in one
            environment.

    Returns:
        Name of the policy -> task -> its episodes' returns and lengths.
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
