"""The student of Policy Distillation, and the experts of its online form."""

from typing import Any

from ray.rllib.core.learner.utils import make_target_network
from ray.rllib.core.rl_module.apis import TargetNetworkAPI
from ray.rllib.utils.annotations import override
from torch import nn

from rllib_distill.algorithms.multi_task_dqn.multi_task_dqn_rl_module import MultiTaskDQNRLModule


class PolicyDistillationRLModule(MultiTaskDQNRLModule):
    """A network whose outputs are logits; with RL beside imitation, Q-values, with a target network."""

    def setup(self) -> None:
        """Builds the student and, for the on-policy objective, its estimate of what is to come."""
        super().setup()
        if self.model_config["value_head"]:
            self.value_head = nn.Linear(self.network.feature_size, 1)

    @override(TargetNetworkAPI)
    def make_target_networks(self) -> None:
        """Copies the network, if there is a use for it."""
        if self.model_config["target_network"]:
            super().make_target_networks()

    @override(TargetNetworkAPI)
    def get_target_network_pairs(self) -> list[tuple[Any, Any]]:
        """See RLlib."""
        return super().get_target_network_pairs() if self.model_config["target_network"] else []

    def get_non_inference_attributes(self) -> list[str]:
        """See RLlib."""
        return [*super().get_non_inference_attributes(), "value_head"]


class OnlineExpertRLModule(MultiTaskDQNRLModule):
    """A DQN that remembers its best network so far."""

    @override(TargetNetworkAPI)
    def make_target_networks(self) -> None:
        """Copies the Q-network twice."""
        super().make_target_networks()
        self.best_network = make_target_network(self.network)

    def get_non_inference_attributes(self) -> list[str]:
        """See RLlib."""
        return [*super().get_non_inference_attributes(), "best_network"]
