"""Policies that can be evaluated: random play, experts, and those of a checkpoint without its algorithm."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from ray import cloudpickle
from ray.rllib.core.rl_module.multi_rl_module import MultiRLModule

from rllib_distill.core.algorithm import MODULES_FOLDER
from rllib_distill.core.config import MultiTaskConfig
from rllib_distill.env_runner.actors import Actor, ExpertActor, RandomActor
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
