"""Networks in plain torch: a torso makes features, heads make Q-values or logits."""

from rllib_distill.networks.build import build_network
from rllib_distill.networks.heads import PerTask
from rllib_distill.networks.multi_head_network import MultiHeadNetwork
from rllib_distill.networks.network import Network

__all__ = ["MultiHeadNetwork", "Network", "PerTask", "build_network"]
