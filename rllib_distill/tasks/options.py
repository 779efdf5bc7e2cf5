"""Checks of the options that our own environments have in common."""

from typing import Any

import numpy as np

from rllib_distill.errors import DistillError


def check_whole_number(
    option: str, value: Any, *, at_least: int, at_most: int | None = None, odd: bool = False
) -> None:
    """Raises DistillError unless `value` is a whole number in the range, and odd if it has to be."""
    is_whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if is_whole and at_least <= value and (at_most is None or value <= at_most) and (value % 2 or not odd):
        return
    number = "an odd number" if odd else "a whole number"
    allowed = f"of at least {at_least}" if at_most is None else f"from {at_least} to {at_most}"
    raise DistillError(f"{option} is {value!r}; it must be {number} {allowed}.")


def check_render_mode(render_mode: Any) -> None:
    """Raises DistillError unless `render_mode` is one that our environments have."""
    if render_mode not in (None, "rgb_array"):
        raise DistillError(f"render_mode is {render_mode!r}; it must be 'rgb_array' or None.")
