"""Coefficients of losses: one number for all tasks, or one for each."""

from collections.abc import Iterable, Mapping
from typing import Any

from rllib_distill.algorithms.common.settings import check_number
from rllib_distill.errors import DistillError, nearest

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
