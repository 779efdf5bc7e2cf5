"""Networks in plain torch: a torso makes features, a linear head makes Q-values or logits."""

from rllib_distill.networks.network import Network, build_network

__all__ = ["Network", "build_network"]
