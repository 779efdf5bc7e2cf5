"""A torso with a head."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from rllib_distill.networks.torsos import Torso


class Network(nn.Module):
    """One output per action (Q-values or logits) and the features that they are made of.

    Attributes:
        feature_size: F, units of the torso's last hidden layer.
        mixed_precision: whether the torso computes in bfloat16, whose range is float32's, so that gradients
            need no scaling. Weights, features, outputs and the head stay float32: the Q-values of a state
            often differ by less than the 3 digits of bfloat16.
    """

    def __init__(self, torso: Torso, head: nn.Module, *, mixed_precision: bool = False) -> None:
        super().__init__()
        self.feature_size = torso.feature_size
        self.mixed_precision = mixed_precision
        self.torso = torso
        self.head = head

    def forward(self, observations: Tensor, tasks: Sequence[str] | None = None) -> tuple[Tensor, Tensor]:
        """Compute outputs and features.

        Args:
            observations: (B, *observation_shape), raw: bool, float, or uint8 (scaled from 0..255 to 0..1).
            tasks: whose rows these are, in equal chunks, task by task. One head for all needs none.

        Returns:
            Outputs (B, A) and features (B, F), the torso's last hidden layer after its ReLU.
        """
        device = observations.device.type
        # In here, not around the loss: the weights that autocast keeps from a forward without gradients
        # would be those of the next one with gradients.
        with torch.autocast(device, torch.bfloat16, enabled=self.mixed_precision):
            features = self.torso(as_floats(observations)).float()
        with torch.autocast(device, enabled=False):
            return self.outputs(features, tasks), features

    def outputs(self, features: Tensor, tasks: Sequence[str] | None) -> Tensor:
        """The head's (B, A) from features (B, F)."""
        outputs: Tensor = self.head(features)
        return outputs


def as_floats(observations: Tensor) -> Tensor:
    """Raw observations (B, ...) as float32, in the order of their axes in memory; bytes become 0..1."""
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
