"""The weights of several networks of one structure, joined anew whenever they have changed."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_post_hook

from rllib_distill.networks.policy_network import PolicyNetwork
from rllib_distill.networks.stacked_layers import StackedConv, StackedLinear

Layer = TypeVar("Layer", bound=nn.Module)

_optimizer_steps = 0


def _count_step(*_: Any) -> None:
    global _optimizer_steps
    _optimizer_steps += 1


# Fused optimizers write into parameters without counting it in their versions.
register_optimizer_step_post_hook(_count_step)


@dataclass(frozen=True)
class StackedWeights:
    """All layers of N networks.

    Attributes:
        convs: of the torso, maybe none.
        hiddens: of the torso, maybe none.
        core_inputs: the LSTM's, from features to gates, or None: there is no LSTM.
        core_recurrent: (N, U, 4U), the LSTM's, from its last output to gates, or None.
        policy_head: its layers.
        value_head: its layers; none if there are no values.
    """

    convs: Sequence[StackedConv]
    hiddens: Sequence[StackedLinear]
    core_inputs: StackedLinear | None
    core_recurrent: Tensor | None
    policy_head: Sequence[StackedLinear]
    value_head: Sequence[StackedLinear]


class WeightStacker:
    """Joins the weights of networks, and keeps them for forwards without gradients.

    What is kept is joined anew if a parameter was written to (an optimizer's step, `load_state_dict`) or
    replaced. Torch counts these; it does not count writes into a parameter's `.data`, so don't.

    Args:
        networks: of one structure.
    """

    def __init__(self, networks: Sequence[PolicyNetwork]) -> None:
        torsos = [network.torso for network in networks]
        self._torso_dtype = torch.bfloat16 if networks[0].mixed_precision else torch.float32
        self._convs = _layers(torsos, nn.Conv2d)
        self._hiddens = _layers(torsos, nn.Linear)
        self._cores = [network.core for network in networks if network.core is not None]
        self._policy_heads = _layers([network.policy_head for network in networks], nn.Linear)
        value_heads = [network.value_head for network in networks if network.value_head is not None]
        self._value_heads = _layers(value_heads, nn.Linear)
        groups: list[Sequence[nn.Module]] = [*self._convs, *self._hiddens, *self._policy_heads]
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
        """The networks' weights as they are now; with gradients enabled, these reach the networks' own."""
        if torch.is_grad_enabled():
            return self._join()
        parameters: list[Tensor] = [getattr(layer, name) for layer, name in self._names]
        versions = [_optimizer_steps, *((p.data_ptr(), p._version) for p in parameters)]
        if self._kept is None or self._kept.versions != versions:
            # Detached, they keep the memory: nothing else can come to lie at the same addresses.
            self._kept = _Kept(versions, [parameter.detach() for parameter in parameters], self._join())
        return self._kept.weights

    def __getstate__(self) -> dict[str, Any]:
        """Without what is kept: addresses mean nothing to a copy."""
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
            policy_head=[StackedLinear.of(layers) for layers in self._policy_heads],
            value_head=[StackedLinear.of(layers) for layers in self._value_heads],
        )


@dataclass(frozen=True)
class _Kept:
    versions: list[Any]
    parameters: list[Tensor]
    weights: StackedWeights


def _layers(modules: Iterable[nn.Module], kind: type[Layer]) -> list[tuple[Layer, ...]]:
    """First layers of that kind of all modules, second layers, and so on, in the order of use."""
    own = ([layer for layer in module.modules() if isinstance(layer, kind)] for module in modules)
    return list(zip(*own, strict=True))
