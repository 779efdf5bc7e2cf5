"""MultiTaskDQN: one DQN per task, the maker of experts, or one for all, the baseline of distillation."""

from collections.abc import Mapping
from typing import Any, Self

from ray.rllib.core.rl_module.rl_module import RLModuleSpec
from ray.rllib.utils.from_config import NotProvided
from typing_extensions import override

from rllib_distill.core.expert_export import ExpertExport
from rllib_distill.core.replay import ReplayConfig
from rllib_distill.errors import DistillError, check_bool, check_number


class QLearningConfig(ReplayConfig):
    """Double Q-learning on returns of n steps, with target networks."""

    loss_settings = ("double_q", "huber_delta")

    def __init__(self, algo_class: type | None = None):
        """Sets the defaults."""
        super().__init__(algo_class=algo_class)
        self.double_q = True
        self.n_step = 1
        self.huber_delta: float | None = 1.0
        self.target_network_update_freq = 250  # minibatches

    def training(
        self,
        *,
        double_q: bool = NotProvided,
        n_step: int = NotProvided,
        huber_delta: float | None = NotProvided,
        target_network_update_freq: int = NotProvided,
        **kwargs: Any,
    ) -> Self:
        """Sets the training related configuration.

        Args:
            double_q: Whether the online network picks the action that the target network values.
            n_step: Rewards that are summed before the target network's value (default 1, the papers); with 3,
                rewards travel faster (Hessel et al., 2018). Not corrected for exploration.
            huber_delta: Where the loss turns from quadratic to linear (default 1); None: squared errors.
            target_network_update_freq: Minibatches between updates of the target networks (default 250).
            kwargs: See `ReplayConfig.training`.

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
            }
        )

    @property
    def learns_q_values(self) -> bool:
        """Whether any module does."""
        return True

    @property
    def target_update_share(self) -> float:
        """Share of the online network that a target update takes; 1: a copy."""
        return 1.0

    def validate(self) -> None:
        """Checks every value before anything starts."""
        if self.is_recurrent and self.learns_q_values:  # before minibatches have to fit sequences
            raise DistillError(
                "network has the option lstm; Q-learning is for networks without one: remove it, or stack "
                "frames."
            )
        super().validate()
        check_bool("double_q", self.double_q)
        check_number("n_step", self.n_step, least=1, integer=True)
        if self.huber_delta is not None:
            check_number("huber_delta", self.huber_delta, above=0)
        check_number("target_network_update_freq", self.target_network_update_freq, least=1, integer=True)


SHARED = "shared"
"""Id of the module that learns all tasks."""


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
    renamed_keys: Mapping[str, str] = {**QLearningConfig.renamed_keys, "tau": "target_network_tau"}

    def __init__(self, algo_class: type | None = None, *, shared: bool = False):
        """Sets the defaults."""
        super().__init__(algo_class=algo_class or MultiTaskDQN)
        self.shared = shared
        self.heads = "per_task"
        self.target_network_tau = 1.0
        self.num_envs_per_task = 16
        self.training_intensity = 8.0
        self.replay_capacity = 200_000
        self.rollout_fragment_length = 16
        self.epsilon = [[0, 1.0], [200_000, 0.02]]

    def training(
        self, *, shared: bool = NotProvided, target_network_tau: float = NotProvided, **kwargs: Any
    ) -> Self:
        """Sets the training related configuration.

        Args:
            shared: See the class.
            target_network_tau: Share of the online network that a target update takes (default 1, a copy).
            kwargs: See `QLearningConfig.training`. `train_batch_size_per_learner` counts the rows of all
                tasks (default: 128 of each).

        Returns:
            This config.
        """
        super().training(**kwargs)
        self._set_given({"shared": shared, "target_network_tau": target_network_tau})
        if shared is not NotProvided:
            self._map_tasks()
        return self

    @property
    def target_update_share(self) -> float:
        """RLlib's DQN calls it tau, which is a temperature everywhere in this package."""
        return self.target_network_tau

    @override
    def get_default_rl_module_spec(self) -> RLModuleSpec:
        from rllib_distill.core.rl_module import TargetNetworkRLModule

        return RLModuleSpec(module_class=TargetNetworkRLModule)

    @override
    def get_default_learner_class(self) -> type:
        from rllib_distill.algorithms.multi_task_dqn.multi_task_dqn_learner import MultiTaskDQNLearner

        return MultiTaskDQNLearner

    def validate(self) -> None:
        """Checks every value before anything starts."""
        check_bool("shared", self.shared)
        super().validate()
        check_number("target_network_tau", self.target_network_tau, above=0, most=1)

    def _module_of_tasks(self, tasks: list[str]) -> dict[str, str]:
        return dict.fromkeys(tasks, SHARED) if self.shared else super()._module_of_tasks(tasks)


class MultiTaskDQN(ExpertExport):
    """One DQN per task, none of which sees the others' data; or, `shared`, one network for all of them."""

    config: MultiTaskDQNConfig

    @classmethod
    @override
    def get_default_config(cls) -> MultiTaskDQNConfig:
        return MultiTaskDQNConfig()

    @property
    def learned_experts(self) -> dict[str, str]:
        """Every task's own network; a shared one is no expert's."""
        return {} if self.config.shared else {task: task for task in self.config.tasks}
