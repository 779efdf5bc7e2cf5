"""The student of Policy Distillation, and the experts of its online form."""

from typing import Any

from ray.rllib.core.learner.utils import make_target_network
from ray.rllib.core.rl_module.apis import TargetNetworkAPI
from ray.rllib.utils.annotations import override

from rllib_distill.core.rl_module import TargetNetworkRLModule
from rllib_distill.networks import Network


class PolicyDistillationRLModule(TargetNetworkRLModule):
    """A network of logits; with Q-learning beside imitation, of Q-values, with a target network."""

    @override(TargetNetworkAPI)
    def make_target_networks(self) -> None:
        """Copies the network, if there is a use for it."""
        if self.model_config["target_network"]:
            super().make_target_networks()

    @override(TargetNetworkAPI)
    def get_target_network_pairs(self) -> list[tuple[Any, Any]]:
        """The network and its target network, if there is one."""
        return super().get_target_network_pairs() if self.model_config["target_network"] else []


class OnlineExpertRLModule(TargetNetworkRLModule):
    """A DQN that remembers its best network so far."""

    best_network: Network

    @override(TargetNetworkAPI)
    def make_target_networks(self) -> None:
        """Copies the Q-network twice."""
        super().make_target_networks()
        self.best_network = make_target_network(self.network)

    def get_non_inference_attributes(self) -> list[str]:
        """The target network and the best one learn, or teach, and do not act."""
        return [*super().get_non_inference_attributes(), "best_network"]
