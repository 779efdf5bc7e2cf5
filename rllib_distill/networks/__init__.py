"""Networks in plain torch: a torso makes features, heads make Q-values or logits."""

from rllib_distill.networks.build import build_network
from rllib_distill.networks.network import Network, NetworkOutputs, PerTask, scale_outputs
from rllib_distill.networks.stacked import StackedNetworks
from rllib_distill.networks.task_policies import Parameterization, TaskPolicies, TaskPolicyOutputs

__all__ = [
    "Network",
    "NetworkOutputs",
    "Parameterization",
    "PerTask",
    "StackedNetworks",
    "TaskPolicies",
    "TaskPolicyOutputs",
    "build_network",
    "scale_outputs",
]
