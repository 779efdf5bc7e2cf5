"""MultiTaskDQN: one DQN per task, the maker of experts, or one for all, the baseline of distillation."""

from typing import Any, Self

from ray.rllib.core.rl_module.rl_module import RLModuleSpec
from ray.rllib.utils.from_config import NotProvided

from rllib_distill.algorithms.common.settings import check_bool, check_number
from rllib_distill.algorithms.multi_task_dqn.expert_export import ExpertExport
from rllib_distill.algorithms.multi_task_dqn.q_learning_config import QLearningConfig

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


class MultiTaskDQN(ExpertExport):
    """One DQN per task, none of which sees the others' data; or, `shared`, one network for all of them."""

    config: MultiTaskDQNConfig

    @classmethod
    def get_default_config(cls) -> MultiTaskDQNConfig:
        """See RLlib."""
        return MultiTaskDQNConfig()

    @property
    def learned_experts(self) -> dict[str, str]:
        """Every task's own network; a shared one is no expert's."""
        return {} if self.config.shared else {task: task for task in self.config.tasks}
