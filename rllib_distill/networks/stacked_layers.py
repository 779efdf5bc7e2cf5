"""Layers of several networks of one structure, computed side by side."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d

from rllib_distill.networks.network import as_floats


@dataclass(frozen=True)
class StackedLinear:
    """A linear layer of each of N networks.

    Attributes:
        weight: (N, I, O).
        bias: (N, 1, O), or None.
    """

    weight: Tensor
    bias: Tensor | None

    @classmethod
    def of(cls, layers: Sequence[nn.Linear], dtype: torch.dtype = torch.float32) -> Self:
        """Stack the layers' parameters; gradients reach each layer's own."""
        weight = torch.stack([layer.weight for layer in layers]).transpose(1, 2)
        bias = None
        if layers[0].bias is not None:
            bias = torch.stack([layer.bias for layer in layers]).unsqueeze(1).to(dtype)
        return cls(weight.to(dtype), bias)

    def __call__(self, inputs: Tensor) -> Tensor:
        """Map (N, R, I) to (N, R, O)."""
        if self.bias is None:
            return torch.bmm(inputs, self.weight)
        return torch.baddbmm(self.bias, inputs, self.weight)


@dataclass(frozen=True)
class StackedConv:
    """A convolution of each of N networks, as one convolution in N groups.

    Measured on CPUs this is faster than products with copies of all windows, in the layout of `MinAtarCNN`.

    Attributes:
        weight: (N * O, I, kernel, kernel), channels last in memory.
        bias: (N * O,).
        stride: of rows and columns.
        networks: N.
    """

    weight: Tensor
    bias: Tensor
    stride: tuple[int, ...]
    networks: int

    @classmethod
    def of(cls, layers: Sequence[nn.Conv2d], dtype: torch.dtype = torch.float32) -> Self:
        """Join the layers' parameters; gradients reach each layer's own."""
        weight = torch.cat([layer.weight for layer in layers]).to(dtype)
        # Every layer of this package has a bias, which torch's annotations leave open.
        bias = torch.cat([layer.bias for layer in layers if layer.bias is not None]).to(dtype)
        return cls(weight, bias, layers[0].stride, len(layers))

    def __call__(self, maps: Tensor) -> Tensor:
        """Map (R, N * I, H, W) to (R, N * O, H', W')."""
        return conv2d(maps, self.weight, self.bias, self.stride, groups=self.networks)


def stacked_torso(
    observations: Tensor, convs: Sequence[StackedConv], hiddens: Sequence[StackedLinear], dtype: torch.dtype
) -> Tensor:
    """What each network's torso makes of its own observations.

    Args:
        observations: (N, R, *observation_shape), raw.
        convs: convolutions, maybe none.
        hiddens: the linear layers after them, maybe none.
        dtype: in which to compute.

    Returns:
        Features (N, R, F) as float32.
    """
    networks = len(observations)
    if convs:
        # Images of one row side by side as channels (R, H, W, N * C): still in their own dtype, in few bytes.
        images = torch.stack(observations.unbind(), dim=-2).flatten(3)
        maps = as_floats(images).to(dtype).permute(0, 3, 1, 2)
        for conv in convs[:-1]:
            maps = torch.relu_(conv(maps))
        maps = convs[-1](maps)
        # (R, H', W', N * O), each network's own apart again, in the order of `CNN`: row, column, filter.
        rows, channels, height, width = maps.shape
        own = maps.permute(0, 2, 3, 1).reshape(rows, height, width, networks, channels // networks)
        # The copy first and then its ReLU: its gradient needs no copy of its own on the way back.
        features = torch.relu_(own.permute(3, 0, 1, 2, 4).flatten(2))
    else:
        inputs = as_floats(observations.flatten(0, 1)).to(dtype)
        features = inputs.view(*observations.shape[:2], -1)
    for hidden in hiddens:
        features = torch.relu_(hidden(features))
    return features.float()


def stacked_head(features: Tensor, layers: Sequence[StackedLinear]) -> Tensor:
    """What each network's head makes of its own features (N, R, F); there is ReLU between its layers."""
    *hiddens, output = layers
    for hidden in hiddens:
        features = torch.relu_(hidden(features))
    outputs: Tensor = output(features)
    return outputs
