"""The student of Policy Distillation, and the experts of its online form."""

from typing import Any

from ray.rllib.core.learner.utils import make_target_network
from typing_extensions import override

from rllib_distill.core.rl_module import TargetNetworkRLModule
from rllib_distill.networks import Network


class PolicyDistillationRLModule(TargetNetworkRLModule):
    """A network of logits or, with Q-learning beside imitation, of Q-values with a target network."""

    @override
    def make_target_networks(self) -> None:
        """Makes a target network, if Q-learning needs one."""
        if self.model_config["target_network"]:
            super().make_target_networks()

    @override
    def get_target_network_pairs(self) -> list[tuple[Any, Any]]:
        return super().get_target_network_pairs() if self.model_config["target_network"] else []


class OnlineExpertRLModule(TargetNetworkRLModule):
    """A DQN that remembers its best network so far."""

    best_network: Network

    @override
    def make_target_networks(self) -> None:
        """Makes a target network, and a copy that is the best network so far."""
        super().make_target_networks()
        self.best_network = make_target_network(self.network)

    @override
    def get_non_inference_attributes(self) -> list[str]:
        return [*super().get_non_inference_attributes(), "best_network"]
