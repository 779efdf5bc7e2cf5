"""A torso with a linear head, and building one from a config."""

from collections.abc import Mapping
from inspect import Parameter, signature
from typing import Any

import torch
from torch import Tensor, nn

from rllib_distill.errors import DistillError, nearest
from rllib_distill.networks.torsos import TORSOS, Torso


class Network(nn.Module):
    """One output per action (Q-values or logits) and the features they are linear in.

    Attributes:
        feature_size: F, units of the last hidden layer.
        mixed_precision: whether the torso computes in bfloat16, whose range is float32's, so that gradients
            need no scaling. Weights, features, outputs and the head stay float32: the Q-values of a state
            often differ by less than the 3 digits of bfloat16.
    """

    def __init__(self, torso: Torso, num_outputs: int, *, mixed_precision: bool = False) -> None:
        super().__init__()
        self.feature_size = torso.feature_size
        self.mixed_precision = mixed_precision
        self.torso = torso
        self.head = nn.Linear(torso.feature_size, num_outputs)

    def forward(self, observations: Tensor) -> tuple[Tensor, Tensor]:
        """Compute outputs and features.

        Args:
            observations: (B, *observation_shape), raw: bool, float, or uint8 (scaled from 0..255 to 0..1).

        Returns:
            Outputs (B, A) and features (B, F), the last hidden layer after its ReLU.
        """
        device = observations.device.type
        # In here, not around the loss: the weights that autocast keeps from a forward without gradients
        # would be those of the next one with gradients.
        with torch.autocast(device, torch.bfloat16, enabled=self.mixed_precision):
            features = self.torso(_as_floats(observations)).float()
        with torch.autocast(device, enabled=False):
            return self.head(features), features


def _as_floats(observations: Tensor) -> Tensor:
    # Frames travel to the device as bytes, and bytes are what is cheap to bring in order.
    inputs = _in_order(observations).float()
    return inputs.div_(255.0) if observations.dtype == torch.uint8 else inputs


def _in_order(observations: Tensor) -> Tensor:
    """Contiguous: convolutions are fastest on channels last in memory, but stacked frames lie frame by frame.

    Stacking them once more takes a fifth of the time that `contiguous()` does.
    """
    if observations.ndim != 4 or observations.is_contiguous():
        return observations.contiguous()
    return torch.stack(observations.unbind(-1), dim=-1)


def build_network(
    config: Mapping[str, Any],
    observation_shape: tuple[int, ...],
    num_outputs: int,
    *,
    mixed_precision: bool = False,
) -> Network:
    """Build a network from its config.

    Args:
        config: {"type": name, **options}; the types and their options are those of `torsos.TORSOS`.
        observation_shape: of one observation, channels last.
        num_outputs: A, the number of actions.
        mixed_precision: see `Network`.

    Returns:
        The network, freshly initialised with torch's defaults.

    Raises:
        DistillError: If the type or an option is unknown, an option's value is wrong, or the type cannot take
            such observations.
    """
    if not isinstance(config, Mapping) or not isinstance(config.get("type"), str):
        raise DistillError(
            f"A network config must be a mapping with a 'type'; got {config!r}. "
            f"Known types: {', '.join(sorted(TORSOS))}."
        )
    options = dict(config)
    name = options.pop("type")
    if name not in TORSOS:
        raise DistillError(f"Unknown network type {name!r}. {nearest(name, TORSOS)}")
    known = [p.name for p in signature(TORSOS[name]).parameters.values() if p.kind is Parameter.KEYWORD_ONLY]
    for option in options:
        if option not in known:
            allowed = nearest(str(option), known) if known else "It has no options."
            raise DistillError(f"Unknown option {option!r} of the network type {name!r}. {allowed}")
    torso = TORSOS[name](tuple(observation_shape), **options)
    return Network(torso, num_outputs, mixed_precision=mixed_precision)
