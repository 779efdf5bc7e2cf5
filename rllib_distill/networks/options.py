"""Checks of the networks' options."""

from typing import Any

from rllib_distill.errors import DistillError


def positive_int(option: str, value: Any) -> int:
    """The value, if it is one; raises DistillError otherwise."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise DistillError(f"Network option {option!r} must be a positive integer; got {value!r}.")
    return value


def positive_ints(option: str, value: Any, length: int | None = None) -> tuple[int, ...]:
    """The list as a tuple, if it has that many (or at least one); raises DistillError otherwise."""
    is_list = isinstance(value, list | tuple) and len(value) > 0
    if not is_list or (length is not None and len(value) != length):
        amount = "at least one positive integer" if length is None else f"{length} positive integers"
        raise DistillError(f"Network option {option!r} must be a list of {amount}; got {value!r}.")
    return tuple(positive_int(option, number) for number in value)
