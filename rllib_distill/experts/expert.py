"""An expert: a frozen network and what is known about it; the native file format."""

from collections.abc import Mapping
from pathlib import Path
from typing import Generic, NamedTuple, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load as tensors_from_bytes
from safetensors.torch import save as tensors_to_bytes
from torch import Tensor

from rllib_distill.errors import DistillError
from rllib_distill.experts.expert_info import ExpertInfo
from rllib_distill.files import write_all_atomically
from rllib_distill.networks import Network, build_network

Array = TypeVar("Array")


class Label(NamedTuple, Generic[Array]):
    """What an expert says of T steps of B environments.

    Attributes:
        outputs: (T, B, n) Q-values or logits.
        features: (T, B, F), the last hidden layer.
        state: (B, S) afterwards; S is 0 if the expert is not recurrent.
    """

    outputs: Array
    features: Array
    state: Tensor


class Expert:
    """A frozen network for one task; it has its own copy of the weights, which never move.

    Args:
        info: what the expert is.
        weights: the network's `state_dict()`, copied.

    Attributes:
        info: what the expert is.
        network: in evaluation mode, without gradients.

    Raises:
        DistillError: If the weights are not finite or not exactly those of the network in `info`.
    """

    def __init__(self, info: ExpertInfo, weights: Mapping[str, Tensor]) -> None:
        with torch.device("meta"):  # no initial weights to draw: torch's random state stays as it was
            network = build_network(info.network, info.observation_shape, info.num_actions)
        _check_weights(weights, network.state_dict())
        network.to_empty(device="cpu").load_state_dict(weights)
        self.info = info
        self.network: Network = network.eval().requires_grad_(False)

    @torch.inference_mode()
    def label(
        self, observations: Tensor, state: Tensor | None = None, is_first: Tensor | None = None
    ) -> Label[Tensor]:
        """Compute what a student imitates.

        Args:
            observations: (T, B, *observation_shape), raw, in the task's own dtype: T steps of B environments.
            state: (B, S), a recurrent expert's state before the first step; None: zeros.
            is_first: (T, B) bool: the step is the first of an episode. None: none is.

        Returns:
            The label, float32 and without gradients.
        """
        said = self.network(
            observations[None],
            None,
            None if state is None else state[None],
            None if is_first is None else is_first[None],
        )
        return Label(said.outputs[0], said.features[0], said.states[0, -1])

    def save(self, path: str | Path) -> None:
        """Write the weights to `path` and `info` to the .json beside it; folders are made as needed.

        Both files are complete before the first takes its place: a failure leaves no half of an expert.

        Args:
            path: ends in .safetensors.

        Raises:
            DistillError: If the path has another suffix or cannot be written.
        """
        path = _weights_path(path)
        weights = {name: tensor.contiguous() for name, tensor in self.network.state_dict().items()}
        contents = {path.with_suffix(".json"): self.info.to_json().encode(), path: tensors_to_bytes(weights)}
        write_all_atomically(contents)

    @classmethod
    def load(cls, path: str | Path) -> "Expert":
        """Read an expert that `save` wrote.

        Args:
            path: of the .safetensors file; the .json lies beside it.

        Raises:
            DistillError: If a file is missing, truncated or of another format, or the two disagree.
        """
        path = _weights_path(path)
        content, info_content = _read(path), _read(path.with_suffix(".json"))
        try:
            info = ExpertInfo.from_json(info_content)
        except DistillError as error:
            raise DistillError(f"Expert file {path.with_suffix('.json')}: {error}") from None
        try:
            return cls(info, tensors_from_bytes(content))
        except SafetensorError as error:
            reason = " ".join(str(error).split())
            raise DistillError(
                f"Expert file {path}: truncated or no safetensors file ({reason}). Copy or export it again."
            ) from None
        except DistillError as error:
            raise DistillError(f"Expert file {path}: {error}") from None


def _weights_path(path: str | Path) -> Path:
    if not isinstance(path, str | Path) or Path(path).suffix != ".safetensors":
        raise DistillError(f"The path of an expert must end in .safetensors; got {str(path)!r}.")
    return Path(path)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DistillError(
            f"Cannot read the expert file {path}: {error.strerror}. "
            f"An expert is a .safetensors file with a .json of the same name beside it."
        ) from None


def _check_weights(weights: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    missing, extra = sorted(set(expected) - set(weights)), sorted(set(weights) - set(expected))
    if missing or extra:
        raise DistillError(
            f"tensors do not fit the network: missing {missing}, unknown {extra}. Export the expert again."
        )
    for name, wanted in expected.items():
        tensor = weights[name]
        if (tensor.shape, tensor.dtype) != (wanted.shape, wanted.dtype):
            raise DistillError(
                f"tensor {name!r} does not fit the network: expected {tuple(wanted.shape)} {wanted.dtype}, "
                f"got {tuple(tensor.shape)} {tensor.dtype}. Export the expert again."
            )
        if not tensor.isfinite().all():
            raise DistillError(f"tensor {name!r} has values that are not finite. Train the expert again.")
