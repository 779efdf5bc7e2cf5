"""MultiTaskDQN: one DQN per task, the maker of experts, or one for all, the baseline of distillation."""

from pathlib import Path
from typing import Any, Self

import torch
from ray.rllib.core.rl_module.rl_module import RLModuleSpec
from ray.rllib.utils.from_config import NotProvided

from rllib_distill.algorithms.common.multi_task_algorithm import MultiTaskAlgorithm
from rllib_distill.algorithms.common.settings import check_bool, check_number
from rllib_distill.algorithms.multi_task_dqn.q_learning_config import QLearningConfig
from rllib_distill.errors import DistillError
from rllib_distill.experts import Expert, ExpertInfo

SHARED = "shared"
"""Id of the module that learns all tasks."""

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


class MultiTaskDQNConfig(QLearningConfig):
    """Configures `MultiTaskDQN` (Mnih et al., 2015; double Q-learning by van Hasselt et al., 2016).

    Args:
        algo_class: Of the algorithm, as in RLlib.
        shared: Whether one network learns all tasks, with one head per task: the multi-task DQN that Policy
            Distillation is compared with (Rusu et al., 2016). Otherwise (default) each task has its own.

    Example:
        config = (
            MultiTaskDQNConfig()
            .multi_task(tasks={"breakout": "MinAtar/Breakout-v1", "asterix": "MinAtar/Asterix-v1"})
            .training(lr=2.5e-4, epsilon=[[0, 1.0], [400_000, 0.02]])
        )
        algo = config.build_algo()
        algo.train()
        algo.export_experts("experts")
    """

    rows_per_task = 128

    def __init__(self, algo_class: type | None = None, *, shared: bool = False):
        """Sets the defaults."""
        super().__init__(algo_class=algo_class or MultiTaskDQN)
        self.shared = shared
        self.heads = "per_task"
        self.tau = 1.0
        self.num_envs_per_task = 16
        self.replay_ratio = 8.0
        self.replay_capacity = 200_000
        self.rollout_fragment_length = 16
        self.epsilon = [[0, 1.0], [200_000, 0.02]]

    def training(self, *, shared: bool = NotProvided, tau: float = NotProvided, **kwargs: Any) -> Self:
        """Sets the training related configuration.

        Args:
            shared: See the class.
            tau: Share of the online network that a target update takes (default 1, a copy).
            kwargs: See `QLearningConfig.training`. `train_batch_size_per_learner` counts the rows of all
                tasks (default: 128 of each).

        Returns:
            This config.
        """
        super().training(**kwargs)
        self._set_given({"shared": shared, "tau": tau})
        if shared is not NotProvided:
            self._map_tasks()
        return self

    @property
    def target_update_share(self) -> float:
        """RLlib's DQN calls it tau, and so do we."""
        return self.tau

    def get_default_rl_module_spec(self) -> RLModuleSpec:
        """See RLlib."""
        from rllib_distill.algorithms.multi_task_dqn.multi_task_dqn_rl_module import MultiTaskDQNRLModule

        return RLModuleSpec(module_class=MultiTaskDQNRLModule)

    def get_default_learner_class(self) -> type:
        """See RLlib."""
        from rllib_distill.algorithms.multi_task_dqn.multi_task_dqn_learner import MultiTaskDQNLearner

        return MultiTaskDQNLearner

    def validate(self) -> None:
        """Checks every value before anything starts."""
        check_bool("shared", self.shared)
        super().validate()
        check_number("tau", self.tau, above=0, most=1)

    def _module_of_tasks(self, tasks: list[str]) -> dict[str, str]:
        return dict.fromkeys(tasks, SHARED) if self.shared else super()._module_of_tasks(tasks)


class MultiTaskDQN(MultiTaskAlgorithm):
    """One DQN per task, none of which sees the others' data; or, `shared`, one network for all of them."""

    config: MultiTaskDQNConfig

    @classmethod
    def get_default_config(cls) -> MultiTaskDQNConfig:
        """See RLlib."""
        return MultiTaskDQNConfig()

    def export_experts(self, folder: str | Path, made_by: dict[str, Any] | None = None) -> dict[str, Path]:
        """Writes every task's Q-network as an expert file.

        Args:
            folder: Made if missing; holds `<task>.safetensors` and `<task>.json` afterwards.
            made_by: What to note about how they were made, besides the algorithm's own settings.

        Returns:
            Task -> path of its expert.

        Raises:
            DistillError: The tasks share one network, which is no expert's.
        """
        if self.config.shared:
            raise DistillError(
                "The tasks share one network (shared: true), and an expert's file holds a task's own: train "
                "experts with shared: false."
            )
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        weights = self.module_weights()
        paths = {}
        for name, task in self.config.task_set.items():
            info = ExpertInfo.for_task(
                task,
                kind="q_values",
                network=self.config.model_config_of_module(name)["network"],
                made_by={"algorithm": "MultiTaskDQN", **self._recipe(), **(made_by or {})},
            )
            paths[name] = folder / f"{name}.safetensors"
            Expert(info, _network_state(weights[name])).save(paths[name])
        return paths

    def save_to_path(self, path: Any = None, **kwargs: Any) -> str:
        """RLlib's checkpoint with replay memories, and each task's own network as an expert in `experts`."""
        saved = super().save_to_path(path, **kwargs)
        if not self.config.shared:
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
