"""The policies in a checkpoint, without rebuilding the algorithm that made them."""

from pathlib import Path
from typing import Any

import torch
from ray import cloudpickle
from ray.rllib.core.columns import Columns
from ray.rllib.core.rl_module.rl_module import RLModule

from rllib_distill.algorithms.common.multi_task_config import MultiTaskConfig
from rllib_distill.errors import DistillError
from rllib_distill.sampling.actors import Actor, JointActor, ModuleActor

_ALGORITHM_FILE = "class_and_ctor_args.pkl"
_MODULES = Path("learner_group", "learner", "rl_module")


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

    def actor(self, num_envs: int) -> Actor:
        """Acts as the policies do.

        Args:
            num_envs: Environments per task.
        """
        actors: dict[tuple[str, ...], Actor] = {}
        for module_id in self.config.policies:
            actors[self.config.tasks_of_module(module_id)] = ModuleActor(
                self._forward(module_id), self.config.module_spaces(module_id), num_envs
            )
        return JointActor(actors)

    def _forward(self, module_id: str) -> Any:
        module = RLModule.from_checkpoint((self.path / _MODULES / module_id).resolve())
        module.eval()

        @torch.inference_mode()
        def outputs(observations: torch.Tensor) -> torch.Tensor:
            result: torch.Tensor = module.forward_inference({Columns.OBS: observations})[
                Columns.ACTION_DIST_INPUTS
            ]
            return result

        return outputs
