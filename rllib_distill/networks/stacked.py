"""Several networks of one structure, computed side by side: their layers, their weights, and all of them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Any, Self, TypeVar, get_args

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d

from rllib_distill.errors import DistillError
from rllib_distill.networks.network import Network, NetworkOutputs, as_floats, unroll_lstm
from rllib_distill.networks.torsos import Torso

Layer = TypeVar("Layer", bound=nn.Module)


@dataclass(frozen=True)
class StackedLinear:
    """A linear layer of each of N networks, which computes in its weight's dtype.

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
        inputs = inputs.to(self.weight.dtype)
        if self.bias is None:
            return torch.bmm(inputs, self.weight)
        return torch.baddbmm(self.bias, inputs, self.weight)


@dataclass(frozen=True)
class StackedConv:
    """A convolution of each of N networks, as one convolution in N groups, in its weight's dtype.

    Measured on CPUs this is faster than products with copies of all windows, in the layout of `MinAtarCNN`.

    Attributes:
        weight: (N * O, I, kernel, kernel), channels last in memory.
        bias: (N * O,).
        stride: strides of rows and columns.
        networks: N, the number of networks.
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
        return conv2d(maps.to(self.weight.dtype), self.weight, self.bias, self.stride, groups=self.networks)


def stacked_torso(
    observations: Tensor, convs: Sequence[StackedConv], hiddens: Sequence[StackedLinear]
) -> Tensor:
    """Compute the features that each network's torso makes of its own observations.

    Args:
        observations: (N, R, *observation_shape), raw.
        convs: convolutions, maybe none.
        hiddens: the linear layers after them, maybe none.

    Returns:
        Features (N, R, F) as float32.
    """
    networks = len(observations)
    if convs:
        # Images of one row side by side as channels (R, H, W, N * C): still in their own dtype, in few bytes.
        images = torch.stack(observations.unbind(), dim=-2).flatten(3)
        maps = as_floats(images).permute(0, 3, 1, 2)
        for conv in convs[:-1]:
            maps = torch.relu_(conv(maps))
        maps = convs[-1](maps)
        # (R, H', W', N * O), each network's own apart again, in the order of `CNN`: row, column, filter.
        rows, channels, height, width = maps.shape
        own = maps.permute(0, 2, 3, 1).reshape(rows, height, width, networks, channels // networks)
        # The copy first and then its ReLU: its gradient needs no copy of its own on the way back.
        features = torch.relu_(own.permute(3, 0, 1, 2, 4).flatten(2))
    else:
        features = as_floats(observations.flatten(0, 1)).view(*observations.shape[:2], -1)
    for hidden in hiddens:
        features = torch.relu_(hidden(features))
    # Without layers it is a copy, as `Flatten` makes: who keeps features must not keep the caller's buffer.
    return features.float() if convs or hiddens else features.clone()


def stacked_head(features: Tensor, layers: Sequence[StackedLinear]) -> Tensor:
    """Compute what each network's head makes of its own features (N, R, F), with ReLU between its layers."""
    *hiddens, output = layers
    for hidden in hiddens:
        features = torch.relu_(hidden(features))
    outputs: Tensor = output(features)
    return outputs


@dataclass(frozen=True)
class StackedWeights:
    """All layers of N networks.

    Attributes:
        convs: convolutions of the torsos, maybe none.
        hiddens: linear layers of the torsos, maybe none.
        core_inputs: the LSTMs' weights from features to gates, or None if there are no LSTMs.
        core_recurrent: (N, U, 4U), the LSTMs' weights from their last outputs to gates, or None.
        head: layers of the heads.
        value_head: layers of the value heads, none if there are no values.
    """

    convs: Sequence[StackedConv]
    hiddens: Sequence[StackedLinear]
    core_inputs: StackedLinear | None
    core_recurrent: Tensor | None
    head: Sequence[StackedLinear]
    value_head: Sequence[StackedLinear]


class WeightStacker:
    """Joins the weights of networks, and keeps them for forwards without gradients.

    What is kept is joined anew if a parameter was written to (an optimizer's step, `load_state_dict`) or
    replaced. Torch counts such writes, but not those into a parameter's `.data`, nor a fused optimizer's,
    which are counted where this package makes one (`make_optimizer`).

    Args:
        networks: networks of one structure, with torsos of this package.
    """

    def __init__(self, networks: Sequence[Network]) -> None:
        torsos = [network.torso for network in networks]
        self._torso_dtype = torch.bfloat16 if networks[0].mixed_precision else torch.float32
        self._convs = _layers(torsos, nn.Conv2d)
        self._hiddens = _layers(torsos, nn.Linear)
        self._cores = [network.core for network in networks if network.core is not None]
        self._heads = _layers([network.head for network in networks], nn.Linear)
        value_heads = [network.value_head for network in networks if network.value_head is not None]
        self._value_heads = _layers(value_heads, nn.Linear)
        groups: list[Sequence[nn.Module]] = [*self._convs, *self._hiddens, *self._heads]
        groups += [self._cores, *self._value_heads]
        # By name: a parameter may be replaced. Listing them anew by `parameters()` takes ten times as long.
        self._names = [
            (layer, name)
            for layers in groups
            for layer in layers
            for name, _ in layer.named_parameters(recurse=False)
        ]
        self._kept: _Kept | None = None

    def __call__(self) -> StackedWeights:
        """Join the networks' weights as they are now; gradients, if enabled, reach the networks' own."""
        if torch.is_grad_enabled():
            return self._join()
        parameters: list[Tensor] = [getattr(layer, name) for layer, name in self._names]
        versions = [(parameter.data_ptr(), parameter._version) for parameter in parameters]
        if self._kept is None or self._kept.versions != versions:
            # Detached, they keep the memory: nothing else can come to lie at the same addresses.
            self._kept = _Kept(versions, [parameter.detach() for parameter in parameters], self._join())
        return self._kept.weights

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what is kept: addresses mean nothing to a copy."""
        return {**self.__dict__, "_kept": None}

    def _join(self) -> StackedWeights:
        core_inputs, core_recurrent = None, None
        if self._cores:
            weight = torch.stack([core.weight_ih for core in self._cores]).transpose(1, 2)
            bias = torch.stack([core.bias_ih + core.bias_hh for core in self._cores]).unsqueeze(1)
            core_inputs = StackedLinear(weight, bias)
            core_recurrent = torch.stack([core.weight_hh for core in self._cores]).transpose(1, 2)
        return StackedWeights(
            convs=[StackedConv.of(layers, self._torso_dtype) for layers in self._convs],
            hiddens=[StackedLinear.of(layers, self._torso_dtype) for layers in self._hiddens],
            core_inputs=core_inputs,
            core_recurrent=core_recurrent,
            head=[StackedLinear.of(layers) for layers in self._heads],
            value_head=[StackedLinear.of(layers) for layers in self._value_heads],
        )


@dataclass(frozen=True)
class _Kept:
    versions: list[Any]
    parameters: list[Tensor]
    weights: StackedWeights


def _layers(modules: Iterable[nn.Module], kind: type[Layer]) -> list[tuple[Layer, ...]]:
    """The first layers of that kind of all modules, their second layers, and so on, in the order of use."""
    own = ([layer for layer in module.modules() if isinstance(layer, kind)] for module in modules)
    return list(zip(*own, strict=True))


class StackedNetworks:
    """The n-th network for the n-th task, for little more than what one network costs on as many rows.

    It refers to the networks and has no parameters of its own; gradients reach the networks' own. It sees
    changes of their parameters, see `WeightStacker`, but not that one of their layers was replaced. Networks
    with a user's torso, whose layers are not known, are computed one after another.

    Args:
        networks: the N networks.
        names: names of the networks, for the message if they differ; their positions by default.

    Raises:
        DistillError: If there are none, or they are not of one structure.
    """

    def __init__(self, networks: Sequence[Network], names: Sequence[str] | None = None) -> None:
        _check_same_structure(networks, names or [str(n) for n in range(len(networks))])
        self._networks = tuple(networks)
        # A subclass may do anything, so it counts as the user's.
        knows_layers = type(networks[0].torso) in get_args(Torso)
        self._weights = WeightStacker(networks) if knows_layers and len(networks) > 1 else None

    def __call__(self, observations: Tensor, state: Tensor, is_first: Tensor) -> NetworkOutputs:
        """Compute each network's outputs for its own task's rows, as `Network` does for one network.

        Args:
            observations: (N, T, B, *observation_shape), raw: bool, float, or uint8 (scaled to 0..1).
            state: (N, B, S) before the first row.
            is_first: (N, T, B) bool, whether the row is the first of an episode, before which the
                state is zeroed.

        Raises:
            DistillError: If the observations are not of N tasks.
        """
        if len(observations) != len(self._networks):
            raise DistillError(
                f"Observations (N, T, B, ...) must be of N = {len(self._networks)} tasks, one per network; "
                f"got shape {tuple(observations.shape)}."
            )
        if self._weights is None:
            return self._one_by_one(observations, state, is_first)
        with torch.autocast(observations.device.type, enabled=False):
            return self._side_by_side(self._weights(), observations, state, is_first)

    def _one_by_one(self, observations: Tensor, state: Tensor, is_first: Tensor) -> NetworkOutputs:
        rows = zip(self._networks, observations, state, is_first, strict=True)
        parts = [network(own[None], None, before[None], first[None]) for network, own, before, first in rows]
        names = [field.name for field in fields(NetworkOutputs)]
        return NetworkOutputs(*(torch.cat([getattr(part, name) for part in parts]) for name in names))

    def _side_by_side(
        self, weights: StackedWeights, observations: Tensor, state: Tensor, is_first: Tensor
    ) -> NetworkOutputs:
        leading = observations.shape[:3]
        features = stacked_torso(observations.flatten(1, 2), weights.convs, weights.hiddens)
        states = features.new_zeros((*leading, 0))
        if weights.core_inputs is not None and weights.core_recurrent is not None:
            inputs = weights.core_inputs(features).view(*leading, -1)
            hiddens, states = unroll_lstm(inputs, weights.core_recurrent, state, is_first)
            features = hiddens.flatten(1, 2)
        outputs = stacked_head(features, weights.head).view(*leading, -1)
        values = outputs[..., :0]
        if weights.value_head:
            values = stacked_head(features, weights.value_head).view(*leading, -1)
        return NetworkOutputs(outputs, features.view(*leading, -1), values, states)


def _check_same_structure(networks: Sequence[Network], names: Sequence[str]) -> None:
    if not networks:
        raise DistillError("Networks to compute side by side must be at least one; got none.")
    first = _structure(networks[0])
    for network, name in zip(networks[1:], names[1:], strict=True):
        other = _structure(network)
        for part in [*first, *other]:
            if first.get(part) != other.get(part):
                raise DistillError(
                    f"Networks to compute side by side must be of one structure: {part!r} is "
                    f"{first.get(part)} in that of {names[0]!r} and {other.get(part)} in that of {name!r}. "
                    f"Give all tasks the same network config and spaces."
                )


def _structure(network: Network) -> dict[str, object]:
    """What must be the same of all networks, by its name."""
    structure: dict[str, object] = {
        option: getattr(network, option)
        for option in ("num_outputs", "num_values", "state_size", "mixed_precision")
    }
    structure["torso"] = type(network.torso).__name__
    for name, parameter in network.named_parameters():
        structure[name] = tuple(parameter.shape)
    for name, layer in network.named_modules():
        if isinstance(layer, nn.Conv2d):
            structure[f"{name}.stride"] = layer.stride
    return structure
