"""Networks in plain torch: a torso makes features, heads make Q-values or logits."""

from rllib_distill.networks.build import build_network
from rllib_distill.networks.network import MultiHeadNetwork, Network, PerTask
from rllib_distill.networks.policy_network import (
    PolicyNetwork,
    PolicyOutputs,
    build_policy_network,
    scale_logits,
)
from rllib_distill.networks.stacked import StackedNetworks
from rllib_distill.networks.task_policies import Parameterization, TaskPolicies, TaskPolicyOutputs

__all__ = [
    "MultiHeadNetwork",
    "Network",
    "Parameterization",
    "PerTask",
    "PolicyNetwork",
    "PolicyOutputs",
    "StackedNetworks",
    "TaskPolicies",
    "TaskPolicyOutputs",
    "build_network",
    "build_policy_network",
    "scale_logits",
]
