"""The policies in a checkpoint, without rebuilding the algorithm that made them."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ray import cloudpickle
from ray.rllib.core.rl_module.rl_module import RLModule

from rllib_distill.algorithms.common.multi_task_algorithm import MODULES_FOLDER
from rllib_distill.algorithms.common.multi_task_config import MultiTaskConfig
from rllib_distill.errors import DistillError
from rllib_distill.sampling.actors import Actor, JointActor, ModuleActor, module_forward

_ALGORITHM_FILE = "class_and_ctor_args.pkl"


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

    def actor(self, tasks: Iterable[str], num_envs: int, *, experts: bool = False) -> Actor:
        """Acts as the policies do; only those that the tasks need are loaded.

        Args:
            tasks: To act for.
            num_envs: Environments per task.
            experts: Whether the tasks' experts that learned act, instead of the policies.
        """
        config = self.config
        tasks_of: dict[str, list[str]] = {}
        for task in tasks:
            module_id = config.expert_modules[task] if experts else config.policy_mapping_fn(task, None)
            tasks_of.setdefault(module_id, []).append(task)
        actors = {tuple(mine): self._actor_of(module_id, num_envs) for module_id, mine in tasks_of.items()}
        return JointActor(actors)

    def _actor_of(self, module_id: str, num_envs: int) -> Actor:
        module = RLModule.from_checkpoint((self.path / MODULES_FOLDER / module_id).resolve())
        module.eval()
        return ModuleActor(module_forward(module), self.config.module_spaces(module_id), num_envs)
