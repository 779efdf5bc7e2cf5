"""What an expert is, beside its weights: the JSON half of the native format."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np

from rllib_distill.errors import DistillError, nearest
from rllib_distill.tasks import Task

FORMAT = "rllib_distill.expert/1"
KINDS = ("q_values", "logits")
RETURN_KEYS = ("mean", "std", "episodes", "epsilon")


@dataclass(frozen=True)
class ExpertInfo:
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

    Raises:
        DistillError: If a value is none of these.
    """

    task: str
    env: str
    kind: str
    network: Mapping[str, Any]
    observation_shape: tuple[int, ...]
    observation_dtype: str
    num_actions: int
    action_meanings: tuple[str, ...] | None
    preprocessing: Mapping[str, Any]
    expected_return: Mapping[str, float] | None
    made_by: Mapping[str, Any]

    def __post_init__(self) -> None:
        """Check every value, on the way to a file as on the way from it."""
        meanings, expected = self.action_meanings, self.expected_return
        rules = {
            "task": (isinstance(self.task, str), "a string"),
            "env": (isinstance(self.env, str), "a string"),
            "kind": (self.kind in KINDS, f"one of {', '.join(KINDS)}"),
            "network": (isinstance(self.network, Mapping), "a mapping"),
            "observation_shape": (
                isinstance(self.observation_shape, tuple) and all(map(_is_size, self.observation_shape)),
                "a list of positive integers",
            ),
            "observation_dtype": (_is_dtype(self.observation_dtype), "the name of a numpy dtype"),
            "num_actions": (_is_size(self.num_actions), "a positive integer"),
            "action_meanings": (
                meanings is None or _are_names(meanings, self.num_actions),
                f"null or a list of {self.num_actions} distinct strings (num_actions)",
            ),
            "preprocessing": (isinstance(self.preprocessing, Mapping), "a mapping"),
            "expected_return": (
                expected is None or _is_return(expected),
                f"null or a mapping of {', '.join(RETURN_KEYS)} to numbers",
            ),
            "made_by": (isinstance(self.made_by, Mapping), "a mapping"),
        }
        for name, (holds, allowed) in rules.items():
            if not holds:
                raise DistillError(f"{name!r} must be {allowed}; got {getattr(self, name)!r}.")

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
        """
        spec, space = task.spec, task.observation_space
        return cls(
            task=spec.name,
            env=env_name(spec.env),
            kind=kind,
            network=network,
            observation_shape=tuple(map(int, space.shape)),
            observation_dtype=np.dtype(space.dtype).name,
            num_actions=task.num_actions,
            action_meanings=task.action_meanings,
            preprocessing={
                "env_config": {key: repr(value) for key, value in spec.env_config.items()},
                "wrappers": [env_name(wrapper) for wrapper in spec.wrappers],
                "max_episode_steps": spec.max_episode_steps,
            },
            expected_return=expected_return,
            made_by=made_by,
        )

    def to_json(self) -> str:
        """Return the text of the JSON file."""
        return json.dumps({"format": FORMAT, **asdict(self)}, indent=2) + "\n"

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
        names = [field.name for field in fields(cls)]
        for name in names:
            if name not in values:
                raise DistillError(f"the key {name!r} is missing. Required: {', '.join(names)}.")
        for name in values:
            if name not in names:
                raise DistillError(f"unknown key {name!r}. {nearest(name, names)}")
        for name in ("observation_shape", "action_meanings"):
            if isinstance(values[name], list):
                values[name] = tuple(values[name])
        return cls(**values)


def env_name(env: Any) -> str:
    """Return an environment's id, or the dotted name of its class or callable."""
    if isinstance(env, str):
        return env
    return f"{env.__module__}.{getattr(env, '__qualname__', type(env).__name__)}"


def _is_size(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _is_dtype(value: Any) -> bool:
    try:
        return isinstance(value, str) and np.dtype(value).name == value
    except TypeError:
        return False


def _is_return(value: Any) -> bool:
    known = isinstance(value, Mapping) and set(value) == set(RETURN_KEYS)
    return known and all(isinstance(number, int | float) for number in value.values())


def _are_names(value: Any, count: int) -> bool:
    names = isinstance(value, tuple) and all(isinstance(name, str) for name in value)
    return names and len(set(value)) == len(value) == count
