"""The policies in a checkpoint, without rebuilding the algorithm that made them."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

from ray import cloudpickle
from ray.rllib.core.rl_module.multi_rl_module import MultiRLModule
from ray.rllib.core.rl_module.rl_module import RLModule

from rllib_distill.core.algorithm import MODULES_FOLDER
from rllib_distill.core.config import MultiTaskConfig
from rllib_distill.core.paths import newest_checkpoint
from rllib_distill.env_runner.actors import (
    Actor,
    JointActor,
    ModuleActor,
    PolicyActor,
    PolicyRunnerActors,
    module_forward,
)
from rllib_distill.errors import DistillError

_ALGORITHM_FILE = "class_and_ctor_args.pkl"

Who = Literal["policies", "experts", "distilled"]
"""Of a checkpoint: the tasks' policies, the experts that learned beside them, or the distilled policy."""


class TrainedPolicies:
    """The modules of a checkpoint, loaded when they are asked to act."""

    def __init__(self, checkpoint: str | Path):
        """Reads the checkpoint's config.

        Args:
            checkpoint: Folder that `Algorithm.save_to_path` wrote.

        Raises:
            DistillError: It is none, or one of an algorithm that has no tasks.
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
        """Acts as the policies do.

        Args:
            tasks: To act for.
            num_envs: Environments per task.
            who: Acts.
        """
        if issubclass(self.config.runner_actors_class, PolicyRunnerActors):
            return self._joint_policies(num_envs, who)
        return self._single_modules(tasks, num_envs, who)

    def _joint_policies(self, num_envs: int, who: Who) -> Actor:
        """Task policies that have parts in common: all are loaded, and drawn from where training did so."""
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
        """Each acts for its tasks; only those that the tasks need are loaded."""
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
