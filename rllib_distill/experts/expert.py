"""An expert: a frozen network and what is known about it; the native file format."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Generic, Literal, NamedTuple, TypeVar

import numpy as np
import torch
from pydantic import Field, PositiveInt, ValidationInfo, field_validator
from safetensors import SafetensorError
from safetensors.torch import load as tensors_from_bytes
from safetensors.torch import save as tensors_to_bytes
from torch import Tensor

from rllib_distill.errors import DistillError
from rllib_distill.files import write_all_atomically
from rllib_distill.networks import Network, build_network
from rllib_distill.schema import Schema, validate
from rllib_distill.tasks import Task

FORMAT = "rllib_distill.expert/1"
RETURN_KEYS = ("mean", "std", "episodes", "epsilon")


class ExpertInfo(Schema):
    """Describes an expert; its JSON has these keys and "format".

    Attributes:
        task: name of the task it was made for; a user may call the task otherwise.
        env: id of the environment it was made in.
        kind: "q_values" or "logits".
        network: config for `rllib_distill.networks.build_network`.
        observation_shape: of one observation, channels last.
        observation_dtype: numpy's name; with uint8 the network scales 0..255 to 0..1.
        num_actions: number of outputs.
        action_meanings: one distinct name per output, or None.
        preprocessing: of the observations and the environment, as the maker describes it.
        expected_return: undiscounted return per episode {"mean", "std", "episodes", "epsilon"}, or None.
        made_by: algorithm, versions, seed, steps and the like.
    """

    task: str
    env: str
    kind: Literal["q_values", "logits"]
    network: dict[str, Any]
    observation_shape: tuple[PositiveInt, ...] = Field(description="a list of positive integers")
    observation_dtype: str = Field(description="the name of a numpy dtype")
    num_actions: PositiveInt = Field(description="a positive integer")
    action_meanings: tuple[str, ...] | None = Field(description="null or a list of distinct texts")
    preprocessing: dict[str, Any]
    expected_return: dict[str, int | float] | None = Field(
        description=f"null or a mapping of {', '.join(RETURN_KEYS)} to numbers"
    )
    made_by: dict[str, Any]

    @field_validator("observation_dtype")
    @classmethod
    def _is_known(cls, name: str) -> str:
        try:
            known = np.dtype(name).name == name
        except TypeError:
            known = False
        if not known:
            raise ValueError("it must be the name of a numpy dtype, e.g. uint8.")
        return name

    @field_validator("action_meanings")
    @classmethod
    def _is_one_per_action(
        cls, meanings: tuple[str, ...] | None, info: ValidationInfo
    ) -> tuple[str, ...] | None:
        count = info.data.get("num_actions")
        if meanings is not None and count is not None and not len(set(meanings)) == len(meanings) == count:
            raise ValueError(f"it must be null or a list of {count} distinct texts (num_actions).")
        return meanings

    @field_validator("expected_return")
    @classmethod
    def _has_all_keys(cls, numbers: dict[str, float] | None) -> dict[str, float] | None:
        if numbers is not None and set(numbers) != set(RETURN_KEYS):
            raise ValueError(f"it must be null or a mapping of {', '.join(RETURN_KEYS)} to numbers.")
        return numbers

    @classmethod
    def for_task(
        cls,
        task: Task,
        *,
        kind: str,
        network: Mapping[str, Any],
        made_by: Mapping[str, Any],
        expected_return: Mapping[str, float] | None = None,
    ) -> "ExpertInfo":
        """Describe an expert of a task whose spaces are the task's own.

        Args:
            task: gives the environment and the spaces.
            kind: "q_values" or "logits".
            network: config of the network.
            made_by: algorithm, versions, seed, steps and the like.
            expected_return: undiscounted return per episode, if measured.

        Raises:
            DistillError: If a value is wrong.
        """
        spec, space = task.spec, task.observation_space
        values = {
            "task": spec.name,
            "env": env_name(spec.env),
            "kind": kind,
            "network": network,
            "observation_shape": tuple(map(int, space.shape)),
            "observation_dtype": np.dtype(space.dtype).name,
            "num_actions": task.num_actions,
            "action_meanings": task.action_meanings,
            "preprocessing": {
                "env_config": {key: repr(value) for key, value in spec.env_config.items()},
                "wrappers": [env_name(wrapper) for wrapper in spec.wrappers],
                "max_episode_steps": spec.max_episode_steps,
            },
            "expected_return": expected_return,
            "made_by": made_by,
        }
        return validate(cls, values)

    def to_json(self) -> str:
        """Return the text of the JSON file."""
        return json.dumps({"format": FORMAT, **self.model_dump()}, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes) -> "ExpertInfo":
        """Read the text of a JSON file.

        Args:
            text: what `to_json` returns.

        Raises:
            DistillError: If the text is no JSON mapping, its format is unknown, a key is missing or unknown,
                or a value is wrong.
        """
        try:
            values = json.loads(text)
        except ValueError as error:
            raise DistillError(f"not valid JSON ({error}). Export the expert again.") from None
        if not isinstance(values, dict):
            raise DistillError(f"must hold a JSON mapping; got a {type(values).__name__}.")
        version = values.pop("format", None)
        if version != FORMAT:
            raise DistillError(f"unknown 'format' {version!r}; known is {FORMAT!r}. Export the expert again.")
        return validate(cls, values)


def env_name(env: Any) -> str:
    """Return an environment's id, or the dotted name of its class or callable."""
    if isinstance(env, str):
        return env
    return f"{env.__module__}.{getattr(env, '__qualname__', type(env).__name__)}"


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
