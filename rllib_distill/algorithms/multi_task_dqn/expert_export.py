"""Q-networks that were learned here, as expert files."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from rllib_distill.algorithms.common.multi_task_algorithm import MultiTaskAlgorithm
from rllib_distill.errors import DistillError
from rllib_distill.experts import Expert, ExpertInfo

_RECIPE = (
    "lr",
    "gamma",
    "double_q",
    "n_step",
    "huber_delta",
    "target_network_update_freq",
    "replay_ratio",
    "replay_capacity",
    "train_batch_size_per_learner",
    "num_envs_per_task",
    "epsilon",
    "optimizer",
    "seed",
)


class ExpertExport(MultiTaskAlgorithm):
    """Base of algorithms that make experts."""

    @property
    def learned_experts(self) -> Mapping[str, str]:
        """Task -> id of the module that becomes its expert; empty where there is none."""
        return {}

    def export_experts(self, folder: str | Path, made_by: dict[str, Any] | None = None) -> dict[str, Path]:
        """Writes every task's Q-network as an expert file.

        Args:
            folder: Made if missing; holds `<task>.safetensors` and `<task>.json` afterwards.
            made_by: What to note about how they were made, besides the algorithm's own settings.

        Returns:
            Task -> path of its expert.

        Raises:
            DistillError: No task has a Q-network of its own here.
        """
        if not self.learned_experts:
            raise DistillError(
                f"This {type(self).__name__} has no Q-network of each task's own, as an expert's file holds: "
                "use MultiTaskDQN with shared: false, or PolicyDistillation with experts: online."
            )
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        weights = self.module_weights()
        paths = {}
        for task, module_id in self.learned_experts.items():
            info = ExpertInfo.for_task(
                self.config.task_set[task],
                kind="q_values",
                network=self.config.model_config_of_module(module_id)["network"],
                made_by={"algorithm": type(self).__name__, **self._recipe(), **(made_by or {})},
            )
            paths[task] = folder / f"{task}.safetensors"
            Expert(info, _network_state(weights[module_id])).save(paths[task])
        return paths

    def save_to_path(self, path: Any = None, **kwargs: Any) -> str:
        """RLlib's checkpoint with replay memories, and each task's own network as an expert in `experts`."""
        saved = super().save_to_path(path, **kwargs)
        if self.learned_experts:
            self.export_experts(Path(saved) / "experts")
        return saved

    def _recipe(self) -> dict[str, Any]:
        recipe = {name: getattr(self.config, name) for name in _RECIPE}
        return {
            **recipe,
            "env_steps_of_all_tasks": self._env_steps_lifetime(),
            "tasks": list(self.config.tasks),
        }


def _network_state(module_state: dict[str, Any]) -> dict[str, torch.Tensor]:
    prefix = "network."
    return {
        name.removeprefix(prefix): torch.as_tensor(value)
        for name, value in module_state.items()
        if name.startswith(prefix)
    }
