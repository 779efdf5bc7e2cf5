"""SoftQDistral: Distral with soft Q-learning instead of an actor-critic (Teh et al., 2017, section 2)."""

from rllib_distill.algorithms.common.multi_task_algorithm import MultiTaskAlgorithm
from rllib_distill.algorithms.distral.soft_q_config import SoftQDistralConfig

__all__ = ["SoftQDistral", "SoftQDistralConfig"]


class SoftQDistral(MultiTaskAlgorithm):
    """Tasks act by pi_0^alpha exp(beta (Q - V)); the distilled policy pi_0 follows them."""

    config: SoftQDistralConfig

    @classmethod
    def get_default_config(cls) -> SoftQDistralConfig:
        """See RLlib."""
        return SoftQDistralConfig()
