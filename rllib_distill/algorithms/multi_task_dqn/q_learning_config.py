"""Settings of algorithms that learn Q-values."""

from typing import Any, Self

from ray.rllib.utils.from_config import NotProvided

from rllib_distill.algorithms.common.replay_config import ReplayConfig
from rllib_distill.algorithms.common.settings import check_bool, check_number


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
    def target_update_share(self) -> float:
        """Share of the online network that a target update takes; 1: a copy."""
        return 1.0

    def validate(self) -> None:
        """Checks every value before anything starts."""
        super().validate()
        check_bool("double_q", self.double_q)
        check_number("n_step", self.n_step, least=1, integer=True)
        if self.huber_delta is not None:
            check_number("huber_delta", self.huber_delta, above=0)
        check_number("target_network_update_freq", self.target_network_update_freq, least=1, integer=True)
