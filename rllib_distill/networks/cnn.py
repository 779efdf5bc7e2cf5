"""Convolutional torsos of any size, and those of the papers on Atari games."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from rllib_distill.errors import DistillError
from rllib_distill.networks.options import positive_int, positive_ints

_NATURE_CONVS = ((32, 8, 4), (64, 4, 2), (64, 3, 1))
_ACTOR_MIMIC_CONVS = ((256, 8, 4), (512, 4, 2), (512, 3, 1), (512, 3, 1))


class CNN(nn.Module):
    """Convolutions without padding, then fully connected layers, all with ReLU.

    The first fully connected layer sees the maps in the order of the observation: row, column, filter.

    Args:
        observation_shape: (H, W, C).
        convs: [filters, kernel size, stride] of each convolution.
        hiddens: units of each fully connected layer; the last layer's are the features.

    Raises:
        DistillError: If the observations are no images, are too small for the convolutions, or an option is
            not what it says above.
    """

    def __init__(
        self,
        observation_shape: tuple[int, ...],
        *,
        convs: Sequence[Sequence[int]] = _NATURE_CONVS,
        hiddens: Sequence[int] = (512,),
    ) -> None:
        super().__init__()
        convs, hiddens = _checked_convs(convs), positive_ints("hiddens", hiddens)
        height, width = _map_size(observation_shape, convs)
        inputs = observation_shape[2]
        self.convs = nn.ModuleList()
        for filters, kernel, stride in convs:
            conv = nn.Conv2d(inputs, filters, kernel, stride)
            # Channels last in memory as in the observations: no transposing copy in either direction.
            conv.weight.data = conv.weight.data.contiguous(memory_format=torch.channels_last)
            self.convs.append(conv)
            inputs = filters
        self.hiddens = nn.ModuleList()
        inputs = height * width * inputs
        for units in hiddens:
            self.hiddens.append(nn.Linear(inputs, units))
            inputs = units
        self.feature_size = inputs

    def forward(self, observations: Tensor) -> Tensor:
        """Map (B, H, W, C) to features (B, F)."""
        maps = observations.permute(0, 3, 1, 2)
        for conv in self.convs:
            maps = torch.relu_(conv(maps))
        features = maps.permute(0, 2, 3, 1).flatten(1)
        for hidden in self.hiddens:
            features = torch.relu_(hidden(features))
        return features


def nature_cnn(
    observation_shape: tuple[int, ...], *, filters: Sequence[int] = (32, 64, 64), hidden: int = 512
) -> CNN:
    """The network of DQN on Atari games: 8x8/4, 4x4/2, 3x3/1 and one hidden layer (Mnih et al., 2015).

    Actor-Mimic's experts and multitask students are of this size too; Policy Distillation's other sizes have
    names, see `named_networks`.

    Args:
        observation_shape: (H, W, C), H and W at least 36.
        filters: of each of the three convolutions.
        hidden: units of the hidden layer, which are the features.

    Raises:
        DistillError: See `CNN`.
    """
    filters = positive_ints("filters", filters, length=3)
    convs = [(n, kernel, stride) for n, (_, kernel, stride) in zip(filters, _NATURE_CONVS, strict=True)]
    return CNN(observation_shape, convs=convs, hiddens=[positive_int("hidden", hidden)])


def actor_mimic_cnn(observation_shape: tuple[int, ...]) -> CNN:
    """The large student of Actor-Mimic's transfer experiments (Parisotto et al., 2016).

    Args:
        observation_shape: (H, W, C), H and W at least 52.

    Raises:
        DistillError: See `CNN`.
    """
    return CNN(observation_shape, convs=_ACTOR_MIMIC_CONVS, hiddens=(2048, 1024))


def _checked_convs(convs: Any) -> list[tuple[int, ...]]:
    is_list = isinstance(convs, list | tuple) and len(convs) > 0
    if not is_list or any(not isinstance(conv, list | tuple) or len(conv) != 3 for conv in convs):
        raise DistillError(
            f"Network option 'convs' must be a list of [filters, kernel size, stride], "
            f"e.g. [[16, 8, 4], [32, 4, 2]]; got {convs!r}. For no convolution use the type 'mlp'."
        )
    return [positive_ints("convs", conv) for conv in convs]


def _map_size(observation_shape: tuple[int, ...], convs: Sequence[Sequence[int]]) -> tuple[int, int]:
    """Height and width of the last convolution's maps."""
    if len(observation_shape) != 3 or min(observation_shape) < 1:
        raise DistillError(
            f"A convolutional network needs observations (H, W, C); got {observation_shape}. "
            f"For others use the type 'mlp'."
        )
    height, width = observation_shape[:2]
    for i, (_, kernel, stride) in enumerate(convs, 1):
        if min(height, width) < kernel:
            least = _least_size(convs)
            raise DistillError(
                f"Observations {observation_shape} (H, W, C) are too small for the network: its convolution "
                f"{i} of {len(convs)} is {kernel}x{kernel} and gets {height}x{width}. H and W must be at "
                f"least {least}; for smaller ones use the type 'cnn' with your own 'convs', or 'minatar_cnn'."
            )
        height, width = (height - kernel) // stride + 1, (width - kernel) // stride + 1
    return height, width


def _least_size(convs: Sequence[Sequence[int]]) -> int:
    """Smallest height and width of which the last convolution leaves a single pixel."""
    size = 1
    for _, kernel, stride in reversed(convs):
        size = (size - 1) * stride + kernel
    return size
