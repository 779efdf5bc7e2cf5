"""Target networks of our RLModules."""

from collections.abc import Iterable, Mapping
from typing import Any

from ray.rllib.core.learner.utils import make_target_network, update_target_network
from ray.rllib.core.rl_module.apis import InferenceOnlyAPI, TargetNetworkAPI
from ray.rllib.utils.annotations import override

from rllib_distill.algorithms.common.network_rl_module import NetworkRLModule


class TargetNetworkRLModule(NetworkRLModule, InferenceOnlyAPI, TargetNetworkAPI):
    """A network that acts and learns; its target network is a learner's matter."""

    @override(TargetNetworkAPI)
    def make_target_networks(self) -> None:
        """Copies the network."""
        self.target_network = make_target_network(self.network)

    @override(TargetNetworkAPI)
    def get_target_network_pairs(self) -> list[tuple[Any, Any]]:
        """See RLlib."""
        return [(self.network, self.target_network)]

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Takes over weights; where they come without a target network's, it becomes a copy."""
        super().set_state(state)
        for network, target in self.get_target_network_pairs() if hasattr(self, "target_network") else ():
            if not any(name.startswith("target_network.") for name in state):
                target.load_state_dict(network.state_dict())

    @override(InferenceOnlyAPI)
    def get_non_inference_attributes(self) -> list[str]:
        """See RLlib."""
        return ["target_network"]


def update_target_networks(modules: Iterable[Any], share: float) -> None:
    """Moves every target network by `share` of the way to its network; 1: makes it a copy."""
    for module in modules:
        pairs = module.get_target_network_pairs() if isinstance(module, TargetNetworkAPI) else ()
        for network, target in pairs:
            update_target_network(main_net=network, target_net=target, tau=share)
