"""Torsos: networks from float observations, channels last, to features.

A torso takes the shape of one observation and keyword-only options. It maps `(B, ...)` to `(B, F)`, its last
hidden layer after the ReLU, where F is its `feature_size`. Configs and files name torsos as `TORSOS` does,
and some sizes of them as `NAMED_NETWORKS` does.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import override

from rllib_distill.errors import DistillError, check_number

_NATURE_CONVS = ((32, 8, 4), (64, 4, 2), (64, 3, 1))
_ACTOR_MIMIC_CONVS = ((256, 8, 4), (512, 4, 2), (512, 3, 1), (512, 3, 1))


def check_size(option: str, value: Any) -> None:
    """Raise a DistillError unless the value of a network's option is an integer of at least 1."""
    check_number(f"network option {option!r}", value, least=1, integer=True)


def check_sizes(option: str, value: Any, length: int | None = None) -> None:
    """Raise a DistillError unless the value of an option is a list of `length` sizes, or of at least one."""
    is_list = isinstance(value, list | tuple) and len(value) > 0
    if not is_list or (length is not None and len(value) != length):
        amount = "at least one integer" if length is None else f"{length} integers"
        raise DistillError(f"network option {option!r} is {value!r}; it must be a list of {amount} >= 1.")
    for size in value:
        check_number(f"an entry of network option {option!r}", size, least=1, integer=True)


class CNN(nn.Module):
    """Convolutions without padding, then fully connected layers, all with ReLU.

    The first fully connected layer sees the maps in the order of the observation: row, column, filter.

    Args:
        observation_shape: (H, W, C).
        convs: [filters, kernel size, stride] of each convolution.
        hiddens: units of each fully connected layer; the last layer's are the features.

    Raises:
        DistillError: If the observations are no images, are too small for the convolutions, or an option is
            not as described above.
    """

    def __init__(
        self,
        observation_shape: tuple[int, ...],
        *,
        convs: Sequence[Sequence[int]] = _NATURE_CONVS,
        hiddens: Sequence[int] = (512,),
    ) -> None:
        super().__init__()
        _check_convs(convs)
        check_sizes("hiddens", hiddens)
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

    @override
    def forward(self, observations: Tensor) -> Tensor:
        """Map (B, H, W, C) to features (B, F)."""
        maps = observations.permute(0, 3, 1, 2)
        for conv in self.convs:
            maps = torch.relu_(conv(maps))
        features = maps.permute(0, 2, 3, 1).flatten(1)
        for hidden in self.hiddens:
            features = torch.relu_(hidden(features))
        return features


def _check_convs(convs: Any) -> None:
    is_list = isinstance(convs, list | tuple) and len(convs) > 0
    if not is_list or any(not isinstance(conv, list | tuple) or len(conv) != 3 for conv in convs):
        raise DistillError(
            f"network option 'convs' is {convs!r}; it must be a list of [filters, kernel size, stride], "
            "e.g. [[16, 8, 4], [32, 4, 2]]. For no convolution use the type 'mlp'."
        )
    for conv in convs:
        check_sizes("convs", conv)


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


def nature_cnn(
    observation_shape: tuple[int, ...], *, filters: Sequence[int] = (32, 64, 64), hidden: int = 512
) -> CNN:
    """The network of DQN on Atari games: 8x8/4, 4x4/2, 3x3/1 and one hidden layer (Mnih et al., 2015).

    Actor-Mimic's experts and multitask students are of this size too; the other sizes of Policy Distillation
    are in `NAMED_NETWORKS`.

    Args:
        observation_shape: (H, W, C), H and W at least 36.
        filters: filters of each of the three convolutions.
        hidden: units of the hidden layer, which are the features.

    Raises:
        DistillError: If `CNN` refuses the observations or an option.
    """
    check_sizes("filters", filters, length=3)
    check_size("hidden", hidden)
    convs = [(n, kernel, stride) for n, (_, kernel, stride) in zip(filters, _NATURE_CONVS, strict=True)]
    return CNN(observation_shape, convs=convs, hiddens=[hidden])


def actor_mimic_cnn(observation_shape: tuple[int, ...]) -> CNN:
    """The large student of Actor-Mimic's transfer experiments (Parisotto et al., 2016).

    Args:
        observation_shape: (H, W, C), H and W at least 52.

    Raises:
        DistillError: If `CNN` refuses the observations or an option.
    """
    return CNN(observation_shape, convs=_ACTOR_MIMIC_CONVS, hiddens=(2048, 1024))


class MinAtarCNN(nn.Module):
    """The network of the MinAtar paper's DQN: one 3x3 convolution and one hidden layer (Young & Tian, 2019).

    Args:
        observation_shape: (H, W, C), H and W at least 3.
        filters: filters of the convolution, which has stride 1 and no padding.
        hidden: units of the hidden layer, which are the features.

    Raises:
        DistillError: If the observations are no such images or an option is not an integer of at least 1.
    """

    def __init__(self, observation_shape: tuple[int, ...], *, filters: int = 16, hidden: int = 128) -> None:
        super().__init__()
        if len(observation_shape) != 3 or min(observation_shape[:2]) < 3 or observation_shape[2] < 1:
            raise DistillError(
                f"Network type 'minatar_cnn' needs observations (H, W, C) with H and W at least 3; "
                f"got {observation_shape}. For others use the type 'mlp'."
            )
        check_size("filters", filters)
        check_size("hidden", hidden)
        height, width, channels = observation_shape
        self.feature_size = hidden
        self.conv = nn.Conv2d(channels, filters, kernel_size=3)
        # Channels last in memory as in the observations: no transposing copy in either direction.
        self.conv.weight.data = self.conv.weight.data.contiguous(memory_format=torch.channels_last)
        self.hidden = nn.Linear((height - 2) * (width - 2) * filters, self.feature_size)

    @override
    def forward(self, observations: Tensor) -> Tensor:
        """Map (B, H, W, C) to features (B, F)."""
        maps = torch.relu_(self.conv(observations.permute(0, 3, 1, 2)))
        return torch.relu_(self.hidden(maps.permute(0, 2, 3, 1).flatten(1)))


class MLP(nn.Module):
    """Fully connected layers with ReLU on the flattened observation.

    Args:
        observation_shape: shape of the observation, any.
        hiddens: units of each hidden layer; the last layer's are the features.

    Raises:
        DistillError: If `hiddens` is not a list of at least one integer, each of at least 1.
    """

    def __init__(self, observation_shape: tuple[int, ...], *, hiddens: Sequence[int] = (256, 256)) -> None:
        super().__init__()
        if not isinstance(hiddens, list | tuple) or not hiddens:
            raise DistillError(
                f"network option 'hiddens' is {hiddens!r}; it must be a list of integers >= 1. "
                "For no hidden layer use the type 'linear'."
            )
        check_sizes("hiddens", hiddens)
        sizes = [prod(observation_shape), *hiddens]
        layers: list[nn.Module] = []
        for inputs, units in pairwise(sizes):
            layers += [nn.Linear(inputs, units), nn.ReLU(inplace=True)]
        self.layers = nn.Sequential(*layers)
        self.feature_size = sizes[-1]

    @override
    def forward(self, observations: Tensor) -> Tensor:
        """Map (B, ...) to features (B, F)."""
        features: Tensor = self.layers(observations.flatten(1))
        return features


class Flatten(nn.Module):
    """No hidden layer: the features are the flattened observation, and the network is linear in it."""

    def __init__(self, observation_shape: tuple[int, ...]) -> None:
        super().__init__()
        self.feature_size = prod(observation_shape)

    @override
    def forward(self, observations: Tensor) -> Tensor:
        """Map (B, ...) to (B, F)."""
        # A copy, as every other torso's features are: who keeps them must not keep the caller's buffer.
        return observations.flatten(1).clone()


class Table(Flatten):
    """The features are a one-hot observation; a head is a table of (state, output), zeros at first.

    A step on one state's outputs leaves those of every other state as they are.

    Args:
        observation_shape: shape of the one-hot observation; its size is the number of states.
    """


Torso = MinAtarCNN | CNN | MLP | Flatten | Table
"""The torsos of this package, which `StackedNetworks` can compute side by side.

Each has convolutions without padding (maybe none), then linear layers (maybe none) on the maps in the order
row, column, filter. There is ReLU after every layer, and layers are registered in the order of use.
"""

TORSOS: dict[str, Callable[..., Torso]] = {
    "minatar_cnn": MinAtarCNN,
    "nature_cnn": nature_cnn,
    "actor_mimic_cnn": actor_mimic_cnn,
    "cnn": CNN,
    "mlp": MLP,
    "linear": Flatten,
    "tabular": Table,
}
"""Torsos by the `type` that networks have in configs and files."""

NAMED_NETWORKS: Mapping[str, Mapping[str, Any]] = {
    "distillation_net1": {"type": "nature_cnn", "filters": [16, 32, 32], "hidden": 256},
    "distillation_net2": {"type": "nature_cnn", "filters": [16, 16, 16], "hidden": 128},
    "distillation_net3": {"type": "nature_cnn", "filters": [16, 16, 16], "hidden": 64},
    "multi_distillation": {"type": "nature_cnn", "controller": 128},
    "multi_distillation_large": {
        "type": "nature_cnn",
        "filters": [64, 64, 64],
        "hidden": 1500,
        "controller": 128,
    },
    "minatar_net1": {"type": "minatar_cnn", "filters": 8, "hidden": 64},
    "minatar_net2": {"type": "minatar_cnn", "filters": 4, "hidden": 35},
    "minatar_net3": {"type": "minatar_cnn", "filters": 4, "hidden": 20},
}
"""Networks of certain sizes, whose names are a `type` too; further options override theirs.

Policy Distillation's teacher is 'nature_cnn' (Rusu et al., 2016, table 1). Its students of one game have 25,
7 and 4 % of the teacher's parameters; those of several games are as large as one teacher and as four, with a
controller for each game. The MinAtar students are the same fractions of 'minatar_cnn'.
"""
