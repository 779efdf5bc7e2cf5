"""Networks that were learned here, as expert files."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from typing_extensions import override

from rllib_distill.core.algorithm import MultiTaskAlgorithm
from rllib_distill.errors import DistillError
from rllib_distill.experts import Expert, ExpertInfo

_RECIPE = (
    "lr",
    "gamma",
    "double_q",
    "n_step",
    "huber_delta",
    "target_network_update_freq",
    "training_intensity",
    "replay_capacity",
    "alpha",
    "beta",
    "train_batch_size_per_learner",
    "num_envs_per_task",
    "epsilon",
    "optimizer",
    "seed",
)
"""Settings that an expert's file records, where the algorithm has them."""


class ExpertExport(MultiTaskAlgorithm):
    """Base of algorithms that make experts."""

    expert_kind: Literal["q_values", "logits"] = "q_values"
    """Kind of the outputs of the experts' networks."""

    @property
    def learned_experts(self) -> Mapping[str, str]:
        """Task -> id of the module that becomes its expert; empty where there is none."""
        return {}

    def export_experts(self, folder: str | Path, made_by: dict[str, Any] | None = None) -> dict[str, Path]:
        """Writes every task's network as an expert file.

        Args:
            folder: Made if it is missing; gets `<task>.safetensors` and `<task>.json` of every task.
            made_by: What to note about how they were made, besides the algorithm's own settings.

        Returns:
            Task -> path of its expert.

        Raises:
            DistillError: No task has a network of its own here.
        """
        if not self.learned_experts:
            raise DistillError(
                f"This {type(self).__name__} has no network of each task's own that an expert's file could "
                "hold: use MultiTaskDQN with shared: false, PolicyDistillation with experts: online, or "
                "Distral with parameterization one_column and tasks of equal observations."
            )
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        weights = self.module_weights()
        paths = {}
        for task, module_id in self.learned_experts.items():
            info = ExpertInfo.for_task(
                self.config.task_set[task],
                kind=self.expert_kind,
                network=self.config.model_config_of_module(module_id)["network"],
                made_by={"algorithm": type(self).__name__, **self._recipe(), **(made_by or {})},
            )
            paths[task] = folder / f"{task}.safetensors"
            Expert(info, _network_state(weights[module_id])).save(paths[task])
        return paths

    @override
    def save_to_path(self, path: Any = None, **kwargs: Any) -> str:
        """Writes a checkpoint, with each task's own network as an expert file in its folder `experts`."""
        saved = super().save_to_path(path, **kwargs)
        if self.learned_experts:
            self.export_experts(Path(saved) / "experts")
        return saved

    def _recipe(self) -> dict[str, Any]:
        recipe = {name: getattr(self.config, name) for name in _RECIPE if hasattr(self.config, name)}
        return {
            **recipe,
            "env_steps_of_all_tasks": self.elapsed().env_steps,
            "tasks": list(self.config.tasks),
        }


def _network_state(module_state: dict[str, Any]) -> dict[str, torch.Tensor]:
    """The network's weights without its value head, which experts do not have."""
    prefix = "network."
    return {
        name.removeprefix(prefix): torch.as_tensor(value)
        for name, value in module_state.items()
        if name.startswith(prefix) and not name.startswith(f"{prefix}value_head")
    }
