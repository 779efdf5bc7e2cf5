"""Distral with soft Q-learning (Teh et al., 2017, section 2)."""

from rllib_distill.algorithms.soft_q_distral.soft_q_distral import SoftQDistral, SoftQDistralConfig

__all__ = ["SoftQDistral", "SoftQDistralConfig"]
