"""A Q-network with its target network."""

from collections.abc import Mapping
from typing import Any

from ray.rllib.core.columns import Columns
from ray.rllib.core.learner.utils import make_target_network
from ray.rllib.core.rl_module.apis import InferenceOnlyAPI, TargetNetworkAPI
from ray.rllib.utils.annotations import override

from rllib_distill.algorithms.common.network_rl_module import NetworkRLModule
from rllib_distill.sampling.columns import TASKS


class MultiTaskDQNRLModule(NetworkRLModule, InferenceOnlyAPI, TargetNetworkAPI):
    """The Q-network acts and learns; its target network is a learner's matter."""

    @override(TargetNetworkAPI)
    def make_target_networks(self) -> None:
        """Copies the Q-network."""
        self.target_network = make_target_network(self.network)

    @override(TargetNetworkAPI)
    def get_target_network_pairs(self) -> list[tuple[Any, Any]]:
        """See RLlib."""
        return [(self.network, self.target_network)]

    @override(TargetNetworkAPI)
    def forward_target(self, batch: dict[str, Any]) -> Any:
        """Target Q-values `(N, A)` of `batch["obs"]`."""
        return self.target_network(batch[Columns.OBS], batch.get(TASKS))[0]

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Takes over weights; a student that only imitated so far has no target network to bring."""
        super().set_state(state)
        for network, target in self.get_target_network_pairs() if hasattr(self, "target_network") else ():
            if not any(name.startswith("target_network.") for name in state):
                target.load_state_dict(network.state_dict())

    @override(InferenceOnlyAPI)
    def get_non_inference_attributes(self) -> list[str]:
        """See RLlib."""
        return ["target_network"]
