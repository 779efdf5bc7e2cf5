"""Distral: tasks that learn together around a distilled policy (Teh et al., 2017)."""

from rllib_distill.algorithms.distral.distral import Distral, DistralConfig

__all__ = ["Distral", "DistralConfig"]
