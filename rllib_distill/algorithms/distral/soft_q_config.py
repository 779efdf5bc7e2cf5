"""Configures the soft Q-learning form of Distral (Teh et al., 2017, section 2)."""

from typing import Any, Self

from ray.rllib.core.rl_module.rl_module import RLModuleSpec
from ray.rllib.utils.from_config import NotProvided

from rllib_distill.algorithms.common.replay_config import ReplayConfig
from rllib_distill.algorithms.common.settings import check_bool, check_number
from rllib_distill.algorithms.distral.tabular import check_tabular, is_tabular
from rllib_distill.algorithms.distral.task_policies_config import DISTILLED, TaskPoliciesConfig
from rllib_distill.errors import DistillError
from rllib_distill.networks import Parameterization


class SoftQDistralConfig(TaskPoliciesConfig, ReplayConfig):
    """Configures `SoftQDistral`.

    Example:
        config = (
            SoftQDistralConfig()
            .multi_task(tasks={f"goal_{i}": {"env": "rllib_distill/TwoRooms-v0", "env_config": {"task": i}}
                               for i in range(4)})
            .training(alpha=1.0, beta=5.0, gamma=0.95, n_step=10)
        )
        algo = config.build_algo()
        algo.train()
        algo.evaluate()
    """

    rows_per_task = 160

    def __init__(self, algo_class: type | None = None):
        """Sets the defaults: the paper's coefficients for gridworlds."""
        if algo_class is None:
            from rllib_distill.algorithms.distral.soft_q_distral import SoftQDistral

            algo_class = SoftQDistral
        super().__init__(algo_class=algo_class)
        self.alpha = 1.0
        self.beta = 5.0
        self.gamma = 0.95
        self.distil = True
        self.n_step = 10
        self.target_network_update_freq = 100  # minibatches
        self.num_envs_per_task = 10
        self.rollout_fragment_length = 20
        self.replay_capacity = 20_000
        self.replay_ratio = 4.0

    def training(
        self,
        *,
        distil: bool = NotProvided,
        n_step: int = NotProvided,
        target_network_update_freq: int = NotProvided,
        **kwargs: Any,
    ) -> Self:
        """Sets the training related configuration.

        Args:
            distil: Whether there is a distilled policy (default); if not, each task learns alone, with the
                uniform policy in the distilled one's place.
            n_step: Steps of a soft Bellman backup (default 10, the paper's), at most
                `rollout_fragment_length`, which is the length of the replayed sequences.
            target_network_update_freq: Minibatches between copies of the networks that backups ask
                (default 100).
            kwargs: See `TaskPoliciesConfig.training` and `ReplayConfig.training`; minibatches consist of
                whole sequences (default: 160 rows of every task).

        Returns:
            This config.
        """
        super().training(**kwargs)
        self._set_given(
            {"distil": distil, "n_step": n_step, "target_network_update_freq": target_network_update_freq}
        )
        if distil is not NotProvided:
            self._map_tasks()
        return self

    # -- what the modules are ------------------------------------------------------------------------------

    @property
    def has_distilled(self) -> bool:
        """As configured."""
        return self.distil

    @property
    def policies_parameterization(self) -> Parameterization:
        """Task policies are pi_0^alpha exp(beta (Q - V)), equation (2): two columns, the second being Q."""
        return "two_column" if self.distil else "one_column"

    def column_weights(self, task: str) -> tuple[float, float]:
        """Equation (8) as it stands: the task networks' outputs are Q-values."""
        return self.alpha_of(task), self.beta_of(task)

    def initial_head_scale(self, module_id: str) -> float:
        """Task policies start as pi_0^alpha: logits are no Q-values, which start at 0."""
        return 1.0 if module_id == DISTILLED else 0.0

    def num_values(self, module_id: str) -> int:
        """V follows from Q, equation (3)."""
        return 0

    def starts_at_zero(self, module_id: str) -> bool:
        """All do: Q is 0 and the distilled policy uniform."""
        return True

    @property
    def sequences_per_task(self) -> int:
        """In a minibatch."""
        rows = int(self.train_batch_size_per_learner or 0) // len(self.tasks)
        return rows // int(self.get_rollout_fragment_length())

    def module_class_of(self, module_id: str) -> type:
        """Task networks have target networks."""
        from rllib_distill.algorithms.distral.distral_rl_module import DistralRLModule
        from rllib_distill.algorithms.distral.soft_q_rl_module import SoftQRLModule

        return DistralRLModule if module_id == DISTILLED else SoftQRLModule

    def get_default_rl_module_spec(self) -> RLModuleSpec:
        """See RLlib."""
        from rllib_distill.algorithms.distral.soft_q_rl_module import SoftQRLModule

        return RLModuleSpec(module_class=SoftQRLModule)

    def get_default_learner_class(self) -> type:
        """See RLlib."""
        from rllib_distill.algorithms.distral.soft_q_learner import SoftQLearner

        return SoftQLearner

    # -- checks --------------------------------------------------------------------------------------------

    def validate(self) -> None:
        """Checks every value before anything starts."""
        check_bool("distil", self.distil)
        check_number("target_network_update_freq", self.target_network_update_freq, least=1, integer=True)
        super().validate()
        if self.one_task_per_minibatch:
            raise DistillError("one_task_per_minibatch is for a network of several tasks: remove it.")
        if not self.in_evaluation:  # RLlib gives that fragments of one step
            self._check_sequences()
        if is_tabular(self):
            check_tabular(self)
        if (self.network or {}).get("lstm") is not None:
            raise DistillError(
                "network has the option lstm, which is for Distral; SoftQDistral has no memory."
            )

    def _check_sequences(self) -> None:
        """What is replayed are whole sequences, of every task."""
        length, rows = self.get_rollout_fragment_length(), int(self.train_batch_size_per_learner or 0)
        check_number("n_step", self.n_step, least=1, most=length, integer=True)
        if rows % (length * len(self.tasks)):
            raise DistillError(
                f"train_batch_size_per_learner is {rows}; minibatches are whole sequences of every task, so "
                f"it must be a multiple of rollout_fragment_length times tasks, {length * len(self.tasks)}."
            )
