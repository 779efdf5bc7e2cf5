"""The one exception that people see: what is wrong, the value, what is allowed, how to fix it."""

from collections.abc import Iterable
from difflib import get_close_matches


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
