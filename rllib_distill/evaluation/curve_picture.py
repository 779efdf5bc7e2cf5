"""A picture of learning curves: all settings over the mean of the tasks, and small panels per task."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from rllib_distill.evaluation.curve import Curve
from rllib_distill.evaluation.curve_groups import CurveGroup
from rllib_distill.evaluation.panels import GREY, INK, png, style_panel

Values = NDArray[np.float64]

_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#22262d")
"""Okabe and Ito's, which colour-blind people tell apart as well; without the yellow, too light for lines."""

_DASHES = ("-", "--", "-.", ":")
_MOST_TASKS = 8  # with panels of their own
_COLUMNS = 4
_WIDTH, _HEIGHT, _SMALL_HEIGHT = 10.5, 3.9, 2.1  # inches


def curve_picture(
    groups: Sequence[CurveGroup], tasks: Sequence[str], title: str, name: str, threshold: float | None
) -> bytes:
    """Draws mean returns against env steps.

    Args:
        groups: In the order of the legend.
        tasks: With panels of their own, if they are 2 to 8.
        title: Above all.
        name: Of what tells the groups apart.
        threshold: Drawn as a level; None: not.

    Returns:
        A PNG file.
    """
    rows = math.ceil(len(tasks) / _COLUMNS) if 1 < len(tasks) <= _MOST_TASKS else 0
    figure = Figure(figsize=(_WIDTH, _HEIGHT + _SMALL_HEIGHT * rows), layout="constrained", dpi=150)
    figure.suptitle(title, x=0.01, ha="left", color=INK, fontsize=12, fontweight="bold")
    heights = [_HEIGHT, _SMALL_HEIGHT * rows] if rows else [_HEIGHT]
    parts = figure.subfigures(len(heights), 1, squeeze=False, height_ratios=heights)[:, 0]
    _draw_all(parts[0], groups, tasks, name, threshold)
    if rows:
        _draw_tasks(parts[1], groups, tasks, rows)
    return png(figure)


def _draw_all(
    figure: SubFigure, groups: Sequence[CurveGroup], tasks: Sequence[str], name: str, threshold: float | None
) -> None:
    axes = figure.subplots()
    of_what = tasks[0] if len(tasks) == 1 else f"mean of {len(tasks)} tasks"
    seeds = ", and from the worst seed to the best" if any(len(group.runs) > 1 for group in groups) else ""
    style_panel(axes, f"{of_what}{seeds}")
    axes.xaxis.set_major_locator(MaxNLocator(8))
    handles, shown = {}, []
    for order, group in enumerate(groups):
        steps, values = _of_seeds(group.curves)
        look = _look(group, order)
        (handles[group.label],) = axes.plot(steps, values.mean(axis=0), linewidth=1.8, **look)
        low, high = values.min(axis=0), values.max(axis=0)
        axes.fill_between(steps, low, high, color=look["color"], alpha=0.15, linewidth=0)
        shown.append(_compared(group, steps, values))
    if threshold is not None:
        level = axes.axhline(threshold, color=GREY, linewidth=1.2, linestyle=":")
        handles[f"threshold, {threshold:g}"] = level
        shown.append(np.array([threshold]))
    _fit_height(axes, shown)
    axes.set_xlabel("env steps of all tasks", color=INK, fontsize=9)
    axes.set_ylabel("mean return per episode", color=INK, fontsize=9)
    figure.legend(
        handles.values(), handles.keys(), title=name, loc="outside right upper", frameon=False, fontsize=9,
        title_fontsize=9, alignment="left",
    )  # fmt: skip


def _draw_tasks(figure: SubFigure, groups: Sequence[CurveGroup], tasks: Sequence[str], rows: int) -> None:
    grid = figure.subplots(rows, min(len(tasks), _COLUMNS), squeeze=False)
    for task, axes in zip(tasks, grid.flat, strict=False):
        style_panel(axes, task)
        shown = []
        for order, group in enumerate(groups):
            steps, values = _of_seeds(group.task_curves(task))
            axes.plot(steps, values.mean(axis=0), linewidth=1.1, **_look(group, order))
            shown.append(_compared(group, steps, values.mean(axis=0)))
        _fit_height(axes, shown)
    for axes in grid.flat[len(tasks) :]:
        axes.set_axis_off()


def _of_seeds(curves: Sequence[Curve]) -> tuple[Values, Values]:
    """`(n,)` steps, until the first of the curves ends, and `(seeds, n)` returns."""
    steps = np.unique(np.concatenate([curve.steps for curve in curves]))
    steps = steps[steps <= min(curve.end for curve in curves)]
    return steps, np.stack([curve.at(steps) for curve in curves])


def _compared(group: CurveGroup, steps: Values, values: Values) -> Values:
    """Of `(..., n)` values those where areas are taken, at least the last."""
    return values[..., steps >= min(group.start, steps[-1])]


def _fit_height(axes: Axes, shown: Sequence[Values]) -> None:
    """Shows these values; what is far below them, before areas begin, would make them look all alike."""
    low, high = min(values.min() for values in shown), max(values.max() for values in shown)
    margin = 0.05 * (high - low) or 0.05
    axes.set_ylim(0.0 if low >= 0.0 else low - margin, high + margin)


def _look(group: CurveGroup, order: int) -> dict[str, Any]:
    """Of a line, the same wherever the row is drawn, and in other sections with the same rows."""
    place = group.place
    dashes = _DASHES[place // len(_COLOURS) % len(_DASHES)]
    on_top = 3 - order / (order + 1)  # the better, the higher; other lines are at 2
    return {"color": _COLOURS[place % len(_COLOURS)], "linestyle": dashes, "zorder": on_top}
