"""Tables and numbers of a results page, in Markdown."""

import json
from collections.abc import Sequence
from typing import Any

_MISSING = "-"


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]], num_names: int) -> str:
    """A table.

    Args:
        header: Names of the columns.
        rows: A text for each column.
        num_names: How many columns at the left are names; what follows are numbers, aligned to the right.
    """
    rule = ["---" if i < num_names else "---:" for i in range(len(header))]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (header, rule, *rows))


def setting_text(value: Any) -> str:
    """A setting as YAML and JSON have it; a dash where there is none."""
    if value is None:
        return _MISSING
    if isinstance(value, float):
        return f"{value:g}"  # 0.0 in one run is 0 in another
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True, default=str)


def number_text(value: float | None, digits: int = 3) -> str:
    """With so many decimals; a dash where it is unknown."""
    return _MISSING if value is None else f"{value:.{digits}f}"


def steps_text(steps: float | None) -> str:
    """`8.5 million`, or `850,000`."""
    if steps is None:
        return _MISSING
    return f"{steps / 1e6:.3g} million" if steps >= 1e6 else f"{steps:,.0f}"


def duration_text(seconds: float | None) -> str:
    """`45 s`, `28 min` or `2.5 h`."""
    if seconds is None:
        return _MISSING
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 100 * 60 else f"{seconds / 3600:.1f} h"
