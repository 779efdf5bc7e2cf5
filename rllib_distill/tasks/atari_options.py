"""What an Atari task's `env_config` may say, checked before any game starts."""

from collections.abc import Mapping
from inspect import Parameter, signature
from typing import Any

from rllib_distill.errors import DistillError, nearest
from rllib_distill.tasks.atari import AtariVectorEnv

ATARI_DEFAULTS = {
    parameter.name: parameter.default
    for parameter in signature(AtariVectorEnv.__init__).parameters.values()
    if parameter.kind is Parameter.KEYWORD_ONLY
}
_BOUNDS = {
    "frame_stack": (1, 64),
    "frame_skip": (1, 1_000),
    "screen_size": (8, 1_000),
    "noop_max": (0, 10_000),
    "max_num_frames_per_episode": (1, 2**31 - 1),  # ALE counts in C ints
    "num_threads": (1, 1_000),
}


def check_atari_options(options: Mapping[str, Any]) -> None:
    """Checks an Atari task's `env_config`.

    Raises:
        DistillError: an unknown option (the nearest is named), or a value that ALE can't take.
    """
    for name, value in options.items():
        if name not in ATARI_DEFAULTS:
            raise DistillError(f"unknown Atari option {name!r}. {nearest(name, ATARI_DEFAULTS)}")
        is_right, allowed = _check(name, value, ATARI_DEFAULTS[name])
        if not is_right:
            raise DistillError(f"Atari option {name} is {value!r}; it must be {allowed}.")


def _check(name: str, value: Any, default: Any) -> tuple[bool, str]:
    """Whether the value is right, and what is."""
    if isinstance(default, bool):
        return isinstance(value, bool), "true or false"
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if name in _BOUNDS:
        least, most = _BOUNDS[name]
        is_right = is_number and isinstance(value, int) and least <= value <= most
        return is_right, f"a whole number from {least} to {most}"
    return is_number and 0 <= value < 1, "a number in [0, 1)"
