"""Plots of recorded runs: learning curves of a table's rows, and evaluations of students and teachers."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from rllib_distill.evaluation.plots import BLUE, GREY, INK, make_panels, panels_png, png, style_panel
from rllib_distill.results.runs import RecordedRun, all_tasks, interpolated
from rllib_distill.results.tables import CurveTable, stability_frame

_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#22262d")
"""The palette of Okabe and Ito for colour-blind readers, without its yellow, which is too light for lines."""

_DASHES = ("-", "--", "-.", ":")
_MOST_TASKS = 8  # tables with more tasks get no panel per task
_COLUMNS = 4
_WIDTH, _HEIGHT, _SMALL_HEIGHT = 10.5, 3.9, 2.1  # inches


def stability_picture(runs: Sequence[RecordedRun], title: str) -> bytes:
    """Plots the evaluations of students and teachers during training: a panel per task, a line per seed.

    Args:
        runs: The runs, as in `stability_frame`.
        title: The title above all panels.

    Returns:
        The content of a PNG file.

    Raises:
        DistillError: As `stability_frame`.
    """
    frame = stability_frame(runs)
    figure, panels = make_panels(all_tasks(runs), title)
    for seed in frame.itertuples():
        axes, teacher, student = panels[seed.task], seed.teacher_curve, seed.student_curve
        axes.plot(teacher.index, teacher, color=INK, linewidth=1.0, alpha=0.6, label="teacher")
        axes.plot(student.index, student, color=BLUE, linewidth=1.4, alpha=0.8, label="student")
    return panels_png(figure, panels)


def curve_picture(table: CurveTable, title: str) -> bytes:
    """Plots training returns against env steps: a large panel of the tasks' mean, and a small one per task.

    Args:
        table: The rows, in the order of the legend. There are small panels only for 2 to 8 tasks.
        title: The title above all panels.

    Returns:
        The content of a PNG file.
    """
    tasks = table.tasks
    rows = math.ceil(len(tasks) / _COLUMNS) if 1 < len(tasks) <= _MOST_TASKS else 0
    figure = Figure(figsize=(_WIDTH, _HEIGHT + _SMALL_HEIGHT * rows), layout="constrained", dpi=150)
    figure.suptitle(title, x=0.01, ha="left", color=INK, fontsize=12, fontweight="bold")
    heights = [_HEIGHT, _SMALL_HEIGHT * rows] if rows else [_HEIGHT]
    parts = figure.subfigures(len(heights), 1, squeeze=False, height_ratios=heights)[:, 0]
    _draw_all(parts[0], table)
    if rows:
        _draw_tasks(parts[1], table, rows)
    return png(figure)


def _draw_all(figure: SubFigure, table: CurveTable) -> None:
    axes, tasks, threshold = figure.subplots(), table.tasks, table.options.threshold
    of_what = tasks[0] if len(tasks) == 1 else f"mean of {len(tasks)} tasks"
    seeds = ", and from the worst seed to the best" if table.rows["seeds"].max() > 1 else ""
    style_panel(axes, f"{of_what}{seeds}")
    axes.xaxis.set_major_locator(MaxNLocator(8))
    handles, shown = {}, []
    for order, row in enumerate(table.rows.itertuples()):
        curves = _of_seeds(run.mean_curve for run in row.runs)
        look = _look(row.place, order)
        (handles[row.label],) = axes.plot(curves.index, curves.mean(axis=1), linewidth=1.8, **look)
        low, high = curves.min(axis=1), curves.max(axis=1)
        axes.fill_between(curves.index, low, high, color=look["color"], alpha=0.15, linewidth=0)
        shown.append(_compared(curves, table))
    if threshold is not None:
        level = axes.axhline(threshold, color=GREY, linewidth=1.2, linestyle=":")
        handles[f"threshold, {threshold:g}"] = level
        shown.append(np.array([threshold]))
    _fit_height(axes, shown)
    axes.set_xlabel("env steps of all tasks", color=INK, fontsize=9)
    axes.set_ylabel("mean return per episode", color=INK, fontsize=9)
    figure.legend(
        handles.values(), handles.keys(), title=table.name, loc="outside right upper", frameon=False,
        fontsize=9, title_fontsize=9, alignment="left",
    )  # fmt: skip


def _draw_tasks(figure: SubFigure, table: CurveTable, rows: int) -> None:
    grid = figure.subplots(rows, min(len(table.tasks), _COLUMNS), squeeze=False)
    for task, axes in zip(table.tasks, grid.flat, strict=False):
        style_panel(axes, task)
        shown = []
        for order, row in enumerate(table.rows.itertuples()):
            curve = _of_seeds(run.training_returns[task].dropna() for run in row.runs).mean(axis=1)
            axes.plot(curve.index, curve, linewidth=1.1, **_look(row.place, order))
            shown.append(_compared(curve, table))
        _fit_height(axes, shown)
    for axes in grid.flat[len(table.tasks) :]:
        axes.set_axis_off()


def _of_seeds(curves: Iterable[pd.Series]) -> pd.DataFrame:
    """Returns the curves of all seeds as columns of a table, up to the end of the shortest curve."""
    curves = list(curves)
    together = interpolated(pd.concat(curves, axis=1, sort=True))
    return together.loc[: min(curve.index[-1] for curve in curves)]


def _compared(values: Any, table: CurveTable) -> NDArray[np.float64]:
    """Returns the values of a table or a curve from `from_env_steps` on, or at least its last one."""
    start = min(table.options.from_env_steps, values.index[-1])
    return np.asarray(values.loc[start:], np.float64)


def _fit_height(axes: Axes, shown: Sequence[NDArray[np.float64]]) -> None:
    """Fits the y axis to these values; far lower ones before `from_env_steps` would flatten the lines."""
    low, high = min(values.min() for values in shown), max(values.max() for values in shown)
    margin = 0.05 * (high - low) or 0.05
    axes.set_ylim(0.0 if low >= 0.0 else low - margin, high + margin)


def _look(place: int, order: int) -> dict[str, Any]:
    """Returns the style of a row's line: the same in all panels, and in other sections with the same rows."""
    dashes = _DASHES[place // len(_COLOURS) % len(_DASHES)]
    on_top = 3 - order / (order + 1)  # better rows above worse ones, and all above other lines, which have 2
    return {"color": _COLOURS[place % len(_COLOURS)], "linestyle": dashes, "zorder": on_top}
