"""How a student's score is compared with its expert's."""

import math
from collections.abc import Iterable
from typing import Literal

Measure = Literal["ratio", "normalised"]
"""`ratio`: student / expert; `normalised`: (student - random) / (expert - random)."""


def share_of_expert(measure: Measure, student: float, expert: float, random: float) -> float | None:
    """A student's share.

    Args:
        measure: How they are compared.
        student: Its mean return per episode.
        expert: The expert's.
        random: Random play's, as it was measured.

    Returns:
        None where the expert is no better than nothing, or than random play.
    """
    base = 0.0 if measure == "ratio" else random
    return (student - base) / (expert - base) if expert > base else None


def geometric_mean(shares: Iterable[float | None]) -> float | None:
    """Of shares; None if one is missing or not above 0."""
    logs = [math.log(share) if share is not None and share > 0 else None for share in shares]
    known = [log for log in logs if log is not None]
    return math.exp(sum(known) / len(known)) if known and len(known) == len(logs) else None
