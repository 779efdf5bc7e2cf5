"""Actor-Mimic: experts become one student."""

from rllib_distill.algorithms.actor_mimic.actor_mimic import ActorMimic, ActorMimicConfig

__all__ = ["ActorMimic", "ActorMimicConfig"]
