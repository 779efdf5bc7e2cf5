"""The exception that people see, and checks that raise it: what is wrong, the value, what is allowed."""

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from math import isfinite
from numbers import Integral, Real
from typing import Any


class DistillError(ValueError):
    """A mistake in what the user gave us; the command line shows its text as one line and exits with 2."""


def nearest(name: str, known: Iterable[str], *, list_known: bool = True) -> str:
    """Ends a message about an unknown `name` with the nearest known one and, unless they are many, all."""
    known = sorted(known)
    close = get_close_matches(name, known, n=1, cutoff=0.0 if not list_known else 0.5)
    hint = f"Did you mean {close[0]!r}?" if close else ""
    return " ".join(filter(None, [hint, f"Known: {', '.join(known)}." if list_known else ""]))


def text_hint(value: object) -> str:
    """Says that YAML reads 1e-3 as text, as the file looks right; empty unless `value` is such a text."""
    if not isinstance(value, str):
        return ""
    try:
        number = float(value)
    except ValueError:
        return ""
    whole = value.strip().lstrip("+-").isdecimal()
    return (
        f" It is text: write {value} without quotes."
        if whole
        else f" YAML takes {value} for text: write {number!r}."
    )


def check_number(
    name: str,
    value: Any,
    *,
    above: float | None = None,
    least: float | None = None,
    most: float | None = None,
    integer: bool = False,
) -> None:
    """Raises DistillError unless `value` is a finite number within its bounds."""
    limits = ((">", above), (">=", least), ("<=", most))
    bounds = [f"{relation} {limit:g}" for relation, limit in limits if limit is not None]
    kind = "an integer" if integer else "a number"
    allowed = " ".join([kind, " and ".join(bounds)]).strip()
    types = Integral if integer else Real
    if isinstance(value, bool) or not isinstance(value, types) or not isfinite(value):
        raise DistillError(
            f"{name} is {value!r} ({type(value).__name__}); it must be {allowed}.{text_hint(value)}"
        )
    low = (above is not None and value <= above) or (least is not None and value < least)
    if low or (most is not None and value > most):
        raise DistillError(f"{name} is {value!r}; it must be {allowed}.")


def check_bool(name: str, value: Any) -> None:
    """Raises DistillError unless `value` is True or False."""
    if not isinstance(value, bool):
        raise DistillError(f"{name} is {value!r}; it must be true or false.")


def check_choice(name: str, value: Any, choices: Sequence[str]) -> None:
    """Raises DistillError unless `value` is one of `choices`."""
    if value not in choices:
        raise DistillError(f"{name} is {value!r}; it must be one of {', '.join(map(repr, choices))}.")
