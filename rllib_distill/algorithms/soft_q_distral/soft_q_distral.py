"""SoftQDistral: Distral with soft Q-learning instead of an actor-critic (Teh et al., 2017, section 2)."""

from typing import Any, Self

from ray.rllib.core.rl_module.rl_module import RLModuleSpec
from ray.rllib.utils.from_config import NotProvided
from typing_extensions import override

from rllib_distill.algorithms.distral.task_policies_config import TaskPoliciesConfig
from rllib_distill.algorithms.soft_q_distral.tabular import check_tabular, is_tabular
from rllib_distill.core.algorithm import MultiTaskAlgorithm
from rllib_distill.core.replay import ReplayConfig
from rllib_distill.env_runner.task_envs import DISTILLED
from rllib_distill.errors import DistillError, check_bool, check_number
from rllib_distill.networks import Parameterization
from rllib_distill.replay import Sequences


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
        self.training_intensity = 4.0

    @override
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
            n_step: Steps of a soft Bellman backup (default 10, the paper's), at most as many as a replayed
                sequence has rows: `sequence_length`, by default the larger of n_step and
                `rollout_fragment_length`.
            target_network_update_freq: Minibatches between updates of the target networks (default 100).
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

    @property
    @override
    def draws_sequences(self) -> bool:
        """Always true, as backups look several steps ahead."""
        return True

    @property
    @override
    def sequences(self) -> Sequences:
        """Sequences are by default as long as fragments, or as backups if these are longer."""
        length = self.sequence_length
        if length is None:
            length = max(int(self.get_rollout_fragment_length()), self.n_step)
        return Sequences(length)

    # -- what the modules are ------------------------------------------------------------------------------

    @property
    @override
    def has_distilled(self) -> bool:
        return self.distil

    @property
    @override
    def policies_parameterization(self) -> Parameterization:
        """Task policies are pi_0^alpha exp(beta (Q - V)), equation (2): two columns, the second being Q."""
        return "two_column" if self.distil else "one_column"

    @override
    def column_weights(self, task: str) -> tuple[float, float]:
        """Equation (8) as it stands: the task networks' outputs are Q-values."""
        return self.alpha_of(task), self.beta_of(task)

    @override
    def initial_head_scale(self, module_id: str) -> float:
        """Scales task networks to Q = 0, so that task policies start as pi_0^alpha."""
        return 1.0 if module_id == DISTILLED else 0.0

    @override
    def num_values(self, module_id: str) -> int:
        """No module has value heads, as V follows from Q by equation (3)."""
        return 0

    @override
    def starts_at_zero(self, module_id: str) -> bool:
        """All modules start at zero: Q is 0 and the distilled policy uniform."""
        return True

    @override
    def module_class_of(self, module_id: str) -> type:
        """Only task networks have target networks."""
        from rllib_distill.algorithms.distral.distral_rl_module import DistralRLModule
        from rllib_distill.algorithms.soft_q_distral.soft_q_distral_learner import SoftQRLModule

        return DistralRLModule if module_id == DISTILLED else SoftQRLModule

    @override
    def get_default_rl_module_spec(self) -> RLModuleSpec:
        from rllib_distill.algorithms.soft_q_distral.soft_q_distral_learner import SoftQRLModule

        return RLModuleSpec(module_class=SoftQRLModule)

    @override
    def get_default_learner_class(self) -> type:
        from rllib_distill.algorithms.soft_q_distral.soft_q_distral_learner import SoftQLearner

        return SoftQLearner

    # -- checks --------------------------------------------------------------------------------------------

    @override
    def validate(self) -> None:
        check_bool("distil", self.distil)
        check_number("n_step", self.n_step, least=1, integer=True)
        check_number("target_network_update_freq", self.target_network_update_freq, least=1, integer=True)
        super().validate()
        if self.one_task_per_minibatch:
            raise DistillError("one_task_per_minibatch is for a network of several tasks: remove it.")
        if is_tabular(self):
            check_tabular(self)
        if self.is_recurrent:
            raise DistillError(
                "network has the option lstm, which is for Distral; SoftQDistral's are not recurrent."
            )

    @override
    def _check_sequences(self) -> None:
        """Raises DistillError unless sequences are at least as long as backups, without burn-in."""
        super()._check_sequences()
        length = 0 if self.sequences is None else self.sequences.length
        check_number("n_step", self.n_step, least=1, most=length, integer=True)
        check_number("burn_in_len", self.burn_in_len, least=0, most=0, integer=True)


class SoftQDistral(MultiTaskAlgorithm):
    """Tasks act by pi_0^alpha exp(beta (Q - V)); the distilled policy pi_0 follows them."""

    config: SoftQDistralConfig

    @classmethod
    @override
    def get_default_config(cls) -> SoftQDistralConfig:
        return SoftQDistralConfig()
