"""Actor-Mimic: one student learns to act as every task's expert does (Parisotto et al., 2016)."""

from typing import Any, Self

from ray.rllib.core.rl_module.rl_module import RLModuleSpec
from ray.rllib.utils.from_config import NotProvided
from typing_extensions import override

from rllib_distill.core.experts import ExpertsMixin, StudentAlgorithm
from rllib_distill.core.replay import ReplayConfig
from rllib_distill.core.schedules import Coefficient
from rllib_distill.errors import check_number


class ActorMimicConfig(ExpertsMixin, ReplayConfig):
    """Configures `ActorMimic`.

    Example:
        config = (
            ActorMimicConfig()
            .multi_task(tasks={"breakout": "MinAtar/Breakout-v1", "asterix": "MinAtar/Asterix-v1"})
            .experts({"breakout": "breakout.safetensors", "asterix": "asterix.safetensors"})
            .training(tau=0.1, beta=0.01, lr=5e-4)
        )
        algo = config.build_algo()
        algo.train()
        algo.evaluate()
    """

    def __init__(self, algo_class: type | None = None):
        """Sets the defaults."""
        super().__init__(algo_class=algo_class or ActorMimic)
        self.beta = 0.01
        self.lr = 0.0005
        self.epsilon = 0.1

    def training(self, *, tau: Coefficient = NotProvided, beta: float = NotProvided, **kwargs: Any) -> Self:
        """Sets the training related configuration.

        Args:
            tau: Temperature of the experts' softmax, > 0; it divides the experts' Q-values only (default 1,
                the official code's). Lower is greedier: it should be of the size of the gaps between
                Q-values, which are small where rewards are. A number, or task -> number.
            beta: Weight of feature regression, >= 0 (default 0.01, the paper's); 0 builds none.
            kwargs: See `ReplayConfig.training`.

        Returns:
            This config.
        """
        super().training(**kwargs)
        return self._set_given({"tau": tau, "beta": beta})

    @property
    def wants_expert_features(self) -> bool:
        """Feature regression does."""
        return self.beta > 0

    def model_config_of_module(self, module_id: str) -> dict[str, Any]:
        """The student's network, and the size of each expert's features where they are regressed to."""
        sizes = {}
        if self.wants_expert_features:
            sizes = {task: expert.network.feature_size for task, expert in self.load_experts().items()}
        return {**super().model_config_of_module(module_id), "expert_feature_sizes": sizes}

    @override
    def get_default_rl_module_spec(self) -> RLModuleSpec:
        from rllib_distill.algorithms.actor_mimic.actor_mimic_rl_module import ActorMimicRLModule

        return RLModuleSpec(module_class=ActorMimicRLModule)

    @override
    def get_default_learner_class(self) -> type:
        from rllib_distill.algorithms.actor_mimic.actor_mimic_learner import ActorMimicLearner

        return ActorMimicLearner

    def validate(self) -> None:
        """Checks every value before anything starts."""
        check_number("beta", self.beta, least=0)
        super().validate()


class ActorMimic(StudentAlgorithm):
    """Experts label the states that the student (or they) visit; the student regresses to their policies."""

    config: ActorMimicConfig

    @classmethod
    @override
    def get_default_config(cls) -> ActorMimicConfig:
        return ActorMimicConfig()
