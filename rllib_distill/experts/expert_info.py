"""What an expert is, beside its weights: the JSON half of the native format."""

import json
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from pydantic import Field, PositiveInt, ValidationInfo, field_validator

from rllib_distill.errors import DistillError
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
