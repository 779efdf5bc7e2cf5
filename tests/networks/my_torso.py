"""A torso as a user may write one."""

from math import prod

import torch
from torch import nn


class MyTorso(nn.Module):
    """No ReLU, and its layers are registered in another order than they are used in."""

    def __init__(self, observation_shape: tuple[int, ...], *, units: int = 5) -> None:
        super().__init__()
        self.second, self.first = nn.Linear(units, units), nn.Linear(prod(observation_shape), units)
        self.feature_size = units

    def forward(self, observations: torch.Tensor) -> torch.Tensor:
        return self.second(self.first(observations.flatten(1)).tanh()).sin()


class WithoutSize(nn.Module):
    """It lacks what a torso must have."""

    def __init__(self, observation_shape: tuple[int, ...]) -> None:
        super().__init__()
