"""Checks of config values: what is wrong, the value, what is allowed."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from rllib_distill.errors import DistillError, nearest, text_hint


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
    types = (int, np.integer) if integer else (int, float, np.integer, np.floating)
    if isinstance(value, bool) or not isinstance(value, types) or not np.isfinite(value):
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


Coefficient = float | Mapping[str, float]


def coefficient_of(coefficient: Coefficient, task: str) -> float:
    """A task's own."""
    return float(coefficient[task] if isinstance(coefficient, Mapping) else coefficient)


def check_coefficient(name: str, coefficient: Any, tasks: Iterable[str], **bounds: float) -> None:
    """Raises DistillError unless every task has a number within bounds, those of `check_number`."""
    for of_task, value in _values(name, coefficient, tuple(tasks)):
        check_number(of_task, value, **bounds)  # type: ignore[arg-type]  # bounds are no `integer`


def _values(name: str, coefficient: Any, tasks: tuple[str, ...]) -> Iterable[tuple[str, Any]]:
    if not isinstance(coefficient, Mapping):
        return [(name, coefficient)]
    for task in coefficient:
        if task not in tasks:
            raise DistillError(
                f"{name} has a value for {task!r}, which is no task. {nearest(str(task), tasks)}"
            )
    missing = [task for task in tasks if task not in coefficient]
    if missing:
        raise DistillError(
            f"{name} has no value for {', '.join(map(repr, missing))}; give one number for all tasks, or one "
            "for each."
        )
    return [(f"{name} of task {task!r}", value) for task, value in coefficient.items()]
