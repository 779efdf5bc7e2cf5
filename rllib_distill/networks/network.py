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
    """

    def __init__(self, torso: Torso, num_outputs: int) -> None:
        super().__init__()
        self.feature_size = torso.feature_size
        self.torso = torso
        self.head = nn.Linear(torso.feature_size, num_outputs)

    def forward(self, observations: Tensor) -> tuple[Tensor, Tensor]:
        """Compute outputs and features.

        Args:
            observations: (B, *observation_shape), raw: bool, float, or uint8 (scaled from 0..255 to 0..1).

        Returns:
            Outputs (B, A) and features (B, F), the last hidden layer after its ReLU.
        """
        inputs = observations.float()  # on the observations' device, so frames travel there as bytes
        if observations.dtype == torch.uint8:
            inputs = inputs.div_(255.0)
        features: Tensor = self.torso(inputs)
        return self.head(features), features


def build_network(config: Mapping[str, Any], observation_shape: tuple[int, ...], num_outputs: int) -> Network:
    """Build a network from its config.

    Args:
        config: {"type": name, **options}; the types and their options are those of `torsos.TORSOS`.
        observation_shape: of one observation, channels last.
        num_outputs: A, the number of actions.

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
    return Network(TORSOS[name](tuple(observation_shape), **options), num_outputs)
