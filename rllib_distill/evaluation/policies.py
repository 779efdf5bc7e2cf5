"""Policies that can be evaluated: random play, experts, and those of a checkpoint without its algorithm."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

from ray import cloudpickle
from ray.rllib.core.rl_module.multi_rl_module import MultiRLModule
from ray.rllib.core.rl_module.rl_module import RLModule

from rllib_distill.algorithms.common.multi_task_algorithm import MODULES_FOLDER
from rllib_distill.algorithms.common.multi_task_config import MultiTaskConfig
from rllib_distill.errors import DistillError
from rllib_distill.experts import ExpertBank
from rllib_distill.files import newest_checkpoint
from rllib_distill.sampling.actors import (
    Actor,
    ExpertActor,
    JointActor,
    ModuleActor,
    RandomActor,
    module_forward,
)
from rllib_distill.sampling.policy_actor import PolicyActor
from rllib_distill.sampling.runner_actors import PolicyRunnerActors
from rllib_distill.tasks import TaskSet

_ALGORITHM_FILE = "class_and_ctor_args.pkl"

Who = Literal["policies", "experts", "distilled"]
"""Who acts: the tasks' policies, the experts that learned beside them, or the distilled policy."""

MakeActor = Callable[[TaskSet, int], Actor]
"""Makes an actor for tasks, with so many environments of each. It is small, travels to where the game is, and
loads there what it needs."""


def random_actor(tasks: TaskSet, num_envs: int) -> Actor:
    """Makes an actor of uniformly random actions."""
    return RandomActor({name: task.num_actions for name, task in tasks.items()})


def expert_actor(paths: Mapping[str, str], tasks: TaskSet, num_envs: int) -> Actor:
    """Makes an actor of experts, each for its own task; `paths` maps tasks to the experts' files."""
    experts = ExpertBank.load({task: paths[task] for task in tasks}, tasks)
    return ExpertActor(lambda task, observations: experts.label(task, observations)[0])


def checkpoint_actor(checkpoint: str, who: Who, tasks: TaskSet, num_envs: int) -> Actor:
    """Makes an actor of a checkpoint's policies, or of others that learned beside them."""
    return TrainedPolicies(checkpoint).actor(tasks, num_envs, who)


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

    def actor(self, tasks: Iterable[str], num_envs: int, who: Who = "policies") -> Actor:
        """Makes an actor of the checkpoint's policies.

        Args:
            tasks: The tasks to act for.
            num_envs: Environments per task.
            who: Which policies act.
        """
        if issubclass(self.config.runner_actors_class, PolicyRunnerActors):
            return self._joint_policies(num_envs, who)
        return self._single_modules(tasks, num_envs, who)

    def _joint_policies(self, num_envs: int, who: Who) -> Actor:
        """Loads all task policies, which have parts in common; draws actions where training did so."""
        modules: Any = MultiRLModule.from_checkpoint((self.path / MODULES_FOLDER).resolve())
        modules.foreach_module(lambda module_id, module: module.eval())
        return PolicyActor(
            modules.distilled_forward if who == "distilled" else modules.task_forward,
            self.config.task_set.shared(),
            num_envs,
            modules.state_size,
            draws=self.config.explore,
        )

    def _single_modules(self, tasks: Iterable[str], num_envs: int, who: Who) -> Actor:
        """Loads only the modules that the tasks need; each acts for its tasks."""
        config = self.config
        tasks_of: dict[str, list[str]] = {}
        for task in tasks:
            module_id = (
                config.expert_modules[task] if who == "experts" else config.policy_mapping_fn(task, None)
            )
            tasks_of.setdefault(module_id, []).append(task)
        actors = {
            tuple(mine): self._module_actor(module_id, num_envs) for module_id, mine in tasks_of.items()
        }
        return JointActor(actors)

    def _module_actor(self, module_id: str, num_envs: int) -> Actor:
        module = RLModule.from_checkpoint((self.path / MODULES_FOLDER / module_id).resolve())
        module.eval()
        return ModuleActor(module_forward(module), self.config.module_spaces(module_id), num_envs)
