"""MultiTaskDQN: one DQN per task, all tasks at once, the maker of experts."""

from pathlib import Path
from typing import Any, Self

import torch
from ray.rllib.core.rl_module.rl_module import RLModuleSpec
from ray.rllib.utils.from_config import NotProvided

from rllib_distill.algorithms.common.multi_task_algorithm import MultiTaskAlgorithm
from rllib_distill.algorithms.common.multi_task_config import MultiTaskConfig
from rllib_distill.algorithms.common.settings import check_number
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


class MultiTaskDQNConfig(MultiTaskConfig):
    """Configures `MultiTaskDQN` (Mnih et al., 2015; double Q-learning by van Hasselt et al., 2016).

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

    def __init__(self, algo_class: type | None = None):
        """Sets the defaults."""
        super().__init__(algo_class=algo_class or MultiTaskDQN)
        self.double_q = True
        self.n_step = 1
        self.huber_delta: float | None = 1.0
        self.target_network_update_freq = 250  # minibatches
        self.tau = 1.0
        self.num_envs_per_task = 16
        self.replay_ratio = 8.0
        self.replay_capacity = 200_000
        self.rollout_fragment_length = 16
        self.epsilon = [[0, 1.0], [200_000, 0.02]]

    def training(
        self,
        *,
        double_q: bool = NotProvided,
        n_step: int = NotProvided,
        huber_delta: float | None = NotProvided,
        target_network_update_freq: int = NotProvided,
        tau: float = NotProvided,
        **kwargs: Any,
    ) -> Self:
        """Sets the training related configuration.

        Args:
            double_q: Whether the online network picks the action that the target network values.
            n_step: Rewards that are summed before the target network's value (default 1, the papers); with 3,
                rewards travel faster (Hessel et al., 2018). Not corrected for exploration.
            huber_delta: Where the loss turns from quadratic to linear (default 1); None: squared errors.
            target_network_update_freq: Minibatches between updates of the target networks (default 250).
            tau: Share of the online network that a target update takes (default 1, a copy).
            kwargs: See `MultiTaskConfig.training`. `train_batch_size_per_learner` counts the rows of all
                tasks (default: 128 of each).

        Returns:
            This config.
        """
        super().training(**kwargs)
        return self._set_given(
            {
                "double_q": double_q,
                "n_step": n_step,
                "huber_delta": huber_delta,
                "target_network_update_freq": target_network_update_freq,
                "tau": tau,
            }
        )

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
        super().validate()
        if not isinstance(self.double_q, bool):
            raise DistillError(f"double_q is {self.double_q!r}; it must be true or false.")
        check_number("n_step", self.n_step, least=1, integer=True)
        if self.huber_delta is not None:
            check_number("huber_delta", self.huber_delta, above=0)
        check_number("target_network_update_freq", self.target_network_update_freq, least=1, integer=True)
        check_number("tau", self.tau, above=0, most=1)


class MultiTaskDQN(MultiTaskAlgorithm):
    """One DQN per task; each has its module, replay memory and optimizer, and none sees the others' data."""

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
        """
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
        """RLlib's checkpoint with replay memories, and the networks as expert files in `experts`."""
        saved = super().save_to_path(path, **kwargs)
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
