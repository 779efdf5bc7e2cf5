"""Torsos: float observations, channels last, to the last hidden layer AFTER its ReLU.

A torso takes the shape of one observation and keyword-only options; `TORSOS` names it in configs and files.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from math import prod

import torch
from torch import Tensor, nn

from rllib_distill.errors import DistillError
from rllib_distill.networks.cnn import CNN, actor_mimic_cnn, nature_cnn
from rllib_distill.networks.options import positive_int


class MinAtarCNN(nn.Module):
    """The network of the MinAtar paper's DQN: one 3x3 convolution and one hidden layer (Young & Tian, 2019).

    Args:
        observation_shape: (H, W, C), H and W at least 3.
        filters: of the convolution, stride 1, no padding.
        hidden: units of the hidden layer, which are the features.

    Raises:
        DistillError: If the observations are no such images or an option is not a positive integer.
    """

    def __init__(self, observation_shape: tuple[int, ...], *, filters: int = 16, hidden: int = 128) -> None:
        super().__init__()
        if len(observation_shape) != 3 or min(observation_shape[:2]) < 3 or observation_shape[2] < 1:
            raise DistillError(
                f"Network type 'minatar_cnn' needs observations (H, W, C) with H and W at least 3; "
                f"got {observation_shape}. For others use the type 'mlp'."
            )
        height, width, channels = observation_shape
        filters, self.feature_size = positive_int("filters", filters), positive_int("hidden", hidden)
        self.conv = nn.Conv2d(channels, filters, kernel_size=3)
        # Channels last in memory as in the observations: no transposing copy in either direction.
        self.conv.weight.data = self.conv.weight.data.contiguous(memory_format=torch.channels_last)
        self.hidden = nn.Linear((height - 2) * (width - 2) * filters, self.feature_size)

    def forward(self, observations: Tensor) -> Tensor:
        """Map (B, H, W, C) to features (B, F)."""
        maps = torch.relu_(self.conv(observations.permute(0, 3, 1, 2)))
        return torch.relu_(self.hidden(maps.permute(0, 2, 3, 1).flatten(1)))


class MLP(nn.Module):
    """Fully connected layers with ReLU on the flattened observation.

    Args:
        observation_shape: any.
        hiddens: units of each hidden layer; the last layer's are the features.

    Raises:
        DistillError: If `hiddens` is not a list of at least one positive integer.
    """

    def __init__(self, observation_shape: tuple[int, ...], *, hiddens: Sequence[int] = (256, 256)) -> None:
        super().__init__()
        if not isinstance(hiddens, list | tuple) or not hiddens:
            raise DistillError(
                f"Network option 'hiddens' must be a list of positive integers; got {hiddens!r}. "
                f"For no hidden layer use the type 'linear'."
            )
        sizes = [prod(observation_shape), *(positive_int("hiddens", units) for units in hiddens)]
        layers: list[nn.Module] = []
        for inputs, units in pairwise(sizes):
            layers += [nn.Linear(inputs, units), nn.ReLU(inplace=True)]
        self.layers = nn.Sequential(*layers)
        self.feature_size = sizes[-1]

    def forward(self, observations: Tensor) -> Tensor:
        """Map (B, ...) to features (B, F)."""
        features: Tensor = self.layers(observations.flatten(1))
        return features


class Flatten(nn.Module):
    """No hidden layer: the features are the flattened observation, and the network is linear in it."""

    def __init__(self, observation_shape: tuple[int, ...]) -> None:
        super().__init__()
        self.feature_size = prod(observation_shape)

    def forward(self, observations: Tensor) -> Tensor:
        """Map (B, ...) to (B, F)."""
        # A copy, as every other torso's features are: who keeps them must not keep the caller's buffer.
        return observations.flatten(1).clone()


class Table(Flatten):
    """The features are a one-hot observation; a head is a table of (state, output), zeros at first.

    A step on one state's outputs leaves those of every other state as they are.

    Args:
        observation_shape: of the one-hot observation; its size is the number of states.
    """


# Each is convolutions without padding (maybe none), then linear layers (maybe none) on the maps in the order
# row, column, filter, all with ReLU and registered in the order of use: `stacked_layers` relies on it.
Torso = MinAtarCNN | CNN | MLP | Flatten
TORSOS: dict[str, Callable[..., Torso]] = {
    "minatar_cnn": MinAtarCNN,
    "nature_cnn": nature_cnn,
    "actor_mimic_cnn": actor_mimic_cnn,
    "cnn": CNN,
    "mlp": MLP,
    "linear": Flatten,
    "tabular": Table,
}
