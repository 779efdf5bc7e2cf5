"""Settings that are no single number: schedules of env steps or progress, and values of each task."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from ray.rllib.utils.metrics import NUM_ENV_STEPS_SAMPLED_LIFETIME
from ray.tune.result import TIME_TOTAL_S, TRAINING_ITERATION

from rllib_distill.errors import DistillError, check_number, nearest

Position = float | str
"""Of a schedule's point: env steps of all tasks together, or a share of the run such as "50%"."""

Schedule = float | Sequence[Sequence[Position]]
"""A number, or points `[position, value]`, all positions of one kind; linear in between."""

ENV_STEPS, SECONDS, ITERATIONS = NUM_ENV_STEPS_SAMPLED_LIFETIME, TIME_TOTAL_S, TRAINING_ITERATION

_COUNTERS = (SECONDS, ITERATIONS, "time_since_restore", "iterations_since_restore")
_GROUPS = ("env_runners/", "learners/", "evaluation/", "timers/")
_BY_SHARES = (
    "by shares of the run, but stop does not say when it ends: give a number of env steps, updates, "
    "iterations or seconds, e.g. stop={'num_env_steps_sampled_lifetime': 1000000} (`rllib train` takes the "
    "experiment's)."
)


class Elapsed(NamedTuple):
    """How far training is.

    Attributes:
        env_steps: Of all tasks together.
        progress: The share of the run that is done, from 0 to 1.
    """

    env_steps: int = 0
    progress: float = 0.0


def value_at(schedule: Schedule, elapsed: Elapsed) -> float:
    """The schedule's value: piecewise linear, constant outside its points."""
    if not isinstance(schedule, list | tuple):
        return float(schedule)  # type: ignore[arg-type]  # the other case of the union
    positions, values = zip(*schedule, strict=True)
    now = elapsed.progress if is_by_progress(schedule) else elapsed.env_steps
    return float(np.interp(now, [position_value(position) for position in positions], values))


def is_by_progress(schedule: Any) -> bool:
    """Whether the schedule's positions are shares of the run."""
    return isinstance(schedule, list | tuple) and any(isinstance(point[0], str) for point in schedule)


def position_value(position: Position) -> float:
    """Env steps as they are, a share such as "50%" as 0.5.

    Raises:
        ValueError: It is a text without a percent sign or without a number.
    """
    if not isinstance(position, str):
        return float(position)
    number, sign, rest = position.partition("%")
    if not sign or rest:
        raise ValueError(f"{position!r} is no share of the run.")
    return float(number) / 100


def check_schedule(name: str, value: Any, *, least: float, most: float | None = None) -> None:
    """Raises DistillError unless `value` is a number within bounds, or such a schedule."""
    if not isinstance(value, list | tuple):
        check_number(name, value, least=least, most=most)
        return
    points = list(value)
    if not points or any(not isinstance(point, list | tuple) or len(point) != 2 for point in points):
        raise DistillError(
            f"{name} is {value!r}; a schedule must be a list of [env steps, value], e.g. "
            "[[0, 1.0], [100000, 0.1]], or of [share of the run, value], e.g. [['0%', 1.0], ['100%', 0.1]]."
        )
    for position, number in points:
        check_position(f"a step of {name}", position)
        check_number(f"{name} at step {position}", number, least=least, most=most)
    if len({isinstance(position, str) for position, _ in points}) > 1:
        raise DistillError(f"{name} is {value!r}; its steps must be all env steps, or all shares of the run.")
    positions = [position_value(position) for position, _ in points]
    if positions != sorted(positions):
        raise DistillError(f"{name} is {value!r}; its steps must ascend.")


def check_position(name: str, position: Any, *, above: float | None = None) -> None:
    """Raises DistillError unless `position` is a number of env steps, or a share of the run."""
    if not isinstance(position, str):
        check_number(name, position, above=above, least=0)
        return
    try:
        share = position_value(position)
    except ValueError:
        share = math.nan
    if not 0 <= share <= 1 or share == above:
        raise DistillError(
            f"{name} is {position!r}; it must be a number of env steps, or a share of the run such as '50%'"
            f"{'' if above is None else f', above {above:g}'}."
        )


def check_stop(stop: Any, by_progress: Sequence[str] = ()) -> None:
    """Raises DistillError unless `stop` is criteria of Tune's, and counts something where settings need it.

    Tune never stops at a key that it does not know.

    Args:
        stop: Result key -> value at which the run ends, or None.
        by_progress: Names of the settings that change by shares of the run.
    """
    if stop is not None and not isinstance(stop, Mapping):
        raise DistillError(
            f"stop is {stop!r}; it must map keys of results to values, e.g. {{'training_iteration': 100}}."
        )
    for key, value in (stop or {}).items():
        if key not in (ENV_STEPS, *_COUNTERS) and not str(key).startswith(_GROUPS):
            known = [ENV_STEPS, *_COUNTERS, "env_runners/episode_return_mean"]
            raise DistillError(
                f"unknown key {key!r} in stop. {nearest(str(key), known)} Or a key of results, a/b/c."
            )
        check_number(f"stop: {key}", value)
        if is_counter(key):
            check_number(f"stop: {key}", value, above=0)
    if by_progress and not any(map(is_counter, stop or {})):
        raise DistillError(f"{by_progress[0]} changes {_BY_SHARES}")


def is_counter(key: str) -> bool:
    """Whether a key of results only ever grows, so that it tells how much of a run is done."""
    return key in _COUNTERS or key.endswith("_lifetime")


def share_done(stop: Mapping[str, float] | None, count: Callable[[str], float]) -> float | None:
    """How much of a run is done: the furthest of the criteria that count something.

    Args:
        stop: Result key -> value at which the run ends.
        count: Tells what a counter is at.

    Returns:
        From 0 to 1; None if no criterion counts anything.
    """
    shares = [count(key) / end for key, end in (stop or {}).items() if is_counter(key)]
    return min(1.0, max(shares)) if shares else None


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
