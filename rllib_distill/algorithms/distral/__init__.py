"""Distral: tasks that learn together around a distilled policy (Teh et al., 2017)."""

from rllib_distill.algorithms.distral.distral import Distral, DistralConfig
from rllib_distill.algorithms.soft_q_distral.soft_q_distral import SoftQDistral, SoftQDistralConfig

__all__ = ["Distral", "DistralConfig", "SoftQDistral", "SoftQDistralConfig"]
