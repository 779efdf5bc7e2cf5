"""Several policy networks of one structure, computed side by side."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from rllib_distill.errors import DistillError
from rllib_distill.networks.lstm import unroll_lstm
from rllib_distill.networks.policy_network import PolicyNetwork, PolicyOutputs
from rllib_distill.networks.stacked_layers import stacked_head, stacked_torso
from rllib_distill.networks.stacked_weights import StackedWeights, WeightStacker


class StackedNetworks:
    """The n-th network for the n-th task, for little more than what one network costs on as many rows.

    It refers to the networks and has no parameters of its own; gradients reach the networks' own. It sees
    changes of their parameters, see `WeightStacker`, but not that one of their layers was replaced.

    Args:
        networks: N of them.
        names: of the networks, for the message if they differ; their positions by default.

    Raises:
        DistillError: If there are none, or they are not of one structure.
    """

    def __init__(self, networks: Sequence[PolicyNetwork], names: Sequence[str] | None = None) -> None:
        _check_same_structure(networks, names or [str(n) for n in range(len(networks))])
        self._networks = tuple(networks)
        self._weights = WeightStacker(self._networks)

    def __call__(self, observations: Tensor, state: Tensor, begins: Tensor) -> PolicyOutputs:
        """Compute logits, values and states of each task's rows with its own network.

        Args:
            observations: (N, T, B, *observation_shape), raw: bool, float, or uint8 (scaled to 0..1).
            state: (N, B, S) before the first row.
            begins: (N, T, B) bool: the row is the first of an episode. The state is zeroed before it.

        Raises:
            DistillError: If the observations are not of N tasks.
        """
        if len(observations) != len(self._networks):
            raise DistillError(
                f"Observations (N, T, B, ...) must be of N = {len(self._networks)} tasks, one per network; "
                f"got shape {tuple(observations.shape)}."
            )
        if len(self._networks) == 1:
            outputs: PolicyOutputs = self._networks[0](observations, state, begins)
            return outputs
        with torch.autocast(observations.device.type, enabled=False):
            return self._forward(self._weights(), observations, state, begins)

    def _forward(
        self, weights: StackedWeights, observations: Tensor, state: Tensor, begins: Tensor
    ) -> PolicyOutputs:
        leading = observations.shape[:3]
        dtype = torch.bfloat16 if self._networks[0].mixed_precision else torch.float32
        features = stacked_torso(observations.flatten(1, 2), weights.convs, weights.hiddens, dtype)
        states = features.new_zeros((*leading, 0))
        if weights.core_inputs is not None and weights.core_recurrent is not None:
            inputs = weights.core_inputs(features).view(*leading, -1)
            hiddens, states = unroll_lstm(inputs, weights.core_recurrent, state, begins)
            features = hiddens.flatten(1, 2)
        logits = stacked_head(features, weights.policy_head).view(*leading, -1)
        values = features.new_zeros((*leading, 0))
        if weights.value_head:
            values = stacked_head(features, weights.value_head).view(*leading, -1)
        return PolicyOutputs(logits, values, states)


def _check_same_structure(networks: Sequence[PolicyNetwork], names: Sequence[str]) -> None:
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


def _structure(network: PolicyNetwork) -> dict[str, object]:
    """All that must be the same, by name."""
    structure: dict[str, object] = {
        option: getattr(network, option)
        for option in ("num_actions", "num_values", "state_size", "mixed_precision")
    }
    structure["torso"] = type(network.torso).__name__
    for name, parameter in network.named_parameters():
        structure[name] = tuple(parameter.shape)
    for name, layer in network.named_modules():
        if isinstance(layer, nn.Conv2d):
            structure[f"{name}.stride"] = layer.stride
    return structure
