"""Checks of config values: what is wrong, the value, what is allowed."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from rllib_distill.algorithms.common.optimizers import check_optimizer
from rllib_distill.errors import DistillError, nearest

Schedule = float | Sequence[Sequence[float]]


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
            f"{name} is {value!r} ({type(value).__name__}); it must be {allowed}.{_hint(value)}"
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


def check_schedule(name: str, value: Any, *, least: float, most: float | None = None) -> None:
    """Raises DistillError unless `value` is a number within bounds, or `[[env steps, number], ...]`."""
    if not isinstance(value, list | tuple):
        check_number(name, value, least=least, most=most)
        return
    points = list(value)
    if not points or any(not isinstance(point, list | tuple) or len(point) != 2 for point in points):
        raise DistillError(
            f"{name} is {value!r}; a schedule must be a list of [env steps, value], "
            "e.g. [[0, 1.0], [100000, 0.1]]."
        )
    for step, number in points:
        check_number(f"{name} at step {step}", number, least=least, most=most)
        check_number(f"a step of {name}", step, least=0)
    steps = [step for step, _ in points]
    if steps != sorted(steps):
        raise DistillError(f"{name} is {value!r}; its steps must ascend.")


def check_gradient_steps(lr: Any, optimizer: Any, grad_clip: Any, grad_clip_by: Any) -> None:
    """Raises DistillError unless gradients can be clipped, and steps taken, as these settings say."""
    check_schedule("lr", lr, least=0)
    if isinstance(lr, list | tuple) and (len(lr) < 2 or lr[0][0] != 0):  # RLlib's demands on this schedule
        raise DistillError(
            f"lr is {lr!r}; its schedule needs two points at least, the first of them at step 0, "
            "e.g. [[0, 0.001], [100000, 0.0001]]."
        )
    check_optimizer(optimizer)
    if grad_clip is not None:
        check_number("grad_clip", grad_clip, above=0)
    check_choice("grad_clip_by", grad_clip_by, ("value", "norm", "global_norm"))


def check_module_overrides(
    overrides: Any,
    modules: Collection[str],
    own_settings: Mapping[str, Any],
    *,
    of_losses: Collection[str],
    per_task: Collection[str],
) -> None:
    """Raises DistillError unless learners honour what `algorithm_config_overrides_per_module` says.

    Args:
        overrides: Module id -> setting -> value.
        modules: Ids of the modules there are.
        own_settings: Those of `check_gradient_steps`, with the values for modules without overrides.
        of_losses: Settings of losses that modules may have of their own.
        per_task: Settings that take a value per task instead.
    """
    key = "algorithm_config_overrides_per_module"
    example = "e.g. {distilled: {lr: 0.001}}"
    if not isinstance(overrides, Mapping):
        raise DistillError(f"{key} is {overrides!r}; it must map module ids to settings, {example}.")
    for module_id, settings in overrides.items():
        if module_id not in modules:
            raise DistillError(
                f"{key} names the module {module_id!r}, which there is none of. "
                f"{nearest(str(module_id), modules)}"
            )
        if not isinstance(settings, Mapping):
            raise DistillError(
                f"{key} of module {module_id!r} is {settings!r}; it must be a mapping, {example}."
            )
        known = [*own_settings, *of_losses]
        for name in settings:
            if name not in known:
                hint = f"Tasks have values of their own by {name}={{task: ...}}. " if name in per_task else ""
                raise DistillError(
                    f"{key} sets {name!r} of module {module_id!r}; it may set {', '.join(known)}. "
                    f"{hint}Set all else for all modules alike."
                )
        own = {name: settings.get(name, value) for name, value in own_settings.items()}
        if isinstance(own["optimizer"], Mapping):
            own["optimizer"] = {**own_settings["optimizer"], **own["optimizer"]}  # as RLlib merges them
        try:
            check_gradient_steps(**own)
        except DistillError as error:
            raise DistillError(f"{key} of module {module_id!r}: {error}") from None


def value_at(schedule: Schedule, env_steps: int) -> float:
    """The schedule's value: piecewise linear, constant outside its points."""
    if isinstance(schedule, list | tuple):
        steps, values = zip(*schedule, strict=True)
        return float(np.interp(env_steps, steps, values))
    return float(schedule)  # type: ignore[arg-type]  # the other case of the union


def _hint(value: Any) -> str:
    """YAML reads 1e-3 as text; say so, because the file looks right."""
    if not isinstance(value, str):
        return ""
    try:
        float(value)
    except ValueError:
        return ""
    return f" YAML takes {value} for text: write {float(value)!r}."
