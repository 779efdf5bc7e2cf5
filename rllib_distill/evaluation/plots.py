"""Plots of returns against env steps with one panel per task, such as a trial's learning curves."""

import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator

from rllib_distill.env_runner.task_envs import DISTILLED, EXPERT, POLICY
from rllib_distill.evaluation.scores import RANDOM, STUDENT, ScoreBoard

BLUE, ORANGE, GREY, INK = "#2a6fbb", "#d55e00", "#8a8f98", "#22262d"
_MOST_COLUMNS = 5
_INCHES_PER_LABEL = 2.3  # width of a label in the legend

Curve = tuple[Sequence[float], Sequence[float]]
"""Numbers of env steps (of all tasks together), and the mean return at each of them."""


def learning_curves_png(
    board: ScoreBoard,
    returns: Mapping[str, Curve],
    evaluations: Sequence[Mapping[str, Any]],
    title: str,
) -> bytes:
    """Plots a trial's returns against env steps, with final scores of experts and random play as lines.

    Args:
        board: The final scores.
        returns: Maps each task to its training curve, which may be empty.
        evaluations: The evaluations during training, as in `TrainingRecord.evaluations`.
        title: The title above all panels.

    Returns:
        The content of a PNG file.
    """
    figure, panels = make_panels(board.tasks, title)
    for task, axes in panels.items():
        evaluated = {who: _task_curve(evaluations, who, task) for who in ("student", "distilled", "experts")}
        _draw_task(axes, task, board, returns[task], evaluated)
    return panels_png(figure, panels)


def _task_curve(evaluations: Sequence[Mapping[str, Any]], who: str, task: str) -> Curve:
    known = [point for point in evaluations if task in point.get(who, {})]
    return [float(point["env_steps"]) for point in known], [float(point[who][task]) for point in known]


def _draw_task(
    axes: Axes, task: str, board: ScoreBoard, returns: Curve, evaluated: Mapping[str, Curve]
) -> None:
    learner = STUDENT if STUDENT in board.policies else POLICY
    end = returns[0][-1] if returns[0] else 0.0
    alpha = 0.3 if evaluated["student"][0] else 1
    axes.plot(*returns, color=BLUE, linewidth=1.6, alpha=alpha, label="while training")
    for who, name, colour, width in (
        ("student", learner, BLUE, 1.6),
        ("distilled", DISTILLED, ORANGE, 1.6),
        ("experts", EXPERT, INK, 1.2),
    ):
        if evaluated[who][0]:
            axes.plot(*evaluated[who], color=colour, linewidth=width, label=f"{name}, evaluated")
    _draw_final(axes, end, task, board, learner, BLUE)
    if DISTILLED in board.policies:
        _draw_final(axes, end, task, board, DISTILLED, ORANGE)
    if EXPERT in board.policies:
        label = "expert, final" if evaluated["experts"][0] else "expert"
        axes.axhline(board.mean(EXPERT, task), color=INK, linewidth=1.2, linestyle="--", label=label)
    axes.axhline(board.mean(RANDOM, task), color=GREY, linewidth=1.0, linestyle=":", label="random")


def _draw_final(axes: Axes, at: float, task: str, board: ScoreBoard, policy: str, colour: str) -> None:
    axes.errorbar(
        [at],
        [board.mean(policy, task)],
        yerr=[board.std(policy, task)],
        color=colour,
        marker="o",
        markersize=4.5,
        capsize=2.5,
        linewidth=1.0,
        clip_on=False,
        label=f"{policy}, final (mean ± std)",
    )


def make_panels(tasks: Sequence[str], title: str) -> tuple[Figure, dict[str, Axes]]:
    """Makes a figure with an empty panel per task, for returns against env steps.

    Args:
        tasks: The tasks, at least one.
        title: The title above all panels.

    Returns:
        The figure, and task -> its panel.
    """
    columns = min(len(tasks), _MOST_COLUMNS)
    rows = math.ceil(len(tasks) / columns)
    figure = Figure(figsize=(max(6.0, 2.9 * columns), 2.7 * rows + 0.9), layout="constrained", dpi=150)
    figure.suptitle(title, x=0.01, ha="left", color=INK, fontsize=12, fontweight="bold")
    grid = figure.subplots(rows, columns, squeeze=False)
    panels = dict(zip(tasks, grid.flat, strict=False))
    for task, axes in panels.items():
        style_panel(axes, task)
    for axes in grid.flat[len(tasks) :]:
        axes.set_axis_off()
    for axes in grid[-1]:  # the legend would cover a label of the whole figure
        axes.set_xlabel("env steps of all tasks", color=INK, fontsize=8)
    figure.supylabel("return per episode", color=INK, fontsize=9)
    return figure, panels


def panels_png(figure: Figure, panels: dict[str, Axes]) -> bytes:
    """Finishes a figure: y axes begin at 0 unless a value is negative, and all panels share one legend.

    Args:
        figure: The figure that `make_panels` made.
        panels: Its panels.

    Returns:
        The content of a PNG file.
    """
    handles: dict[str, Artist] = {}
    for axes in panels.values():
        axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]) if axes.dataLim.y0 < 0 else 0.0)
        of_axes, labels = axes.get_legend_handles_labels()
        handles |= dict(zip(labels, of_axes, strict=True))
    figure.legend(
        handles.values(),
        handles.keys(),
        loc="outside lower center",
        ncols=max(1, min(len(handles), int(figure.get_figwidth() / _INCHES_PER_LABEL))),
        frameon=False,
        fontsize=9,
    )
    return png(figure)


def png(figure: Figure) -> bytes:
    """Returns the figure as the content of a PNG file."""
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return file.getvalue()


def style_panel(axes: Axes, task: str) -> None:
    """Sets the title, the ticks and the grid of a task's panel."""
    axes.set_title(task.replace("_", " "), loc="left", fontsize=10, color=INK)
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.tick_params(labelsize=8, colors=GREY)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(GREY)
    axes.grid(axis="y", color="#e6e8eb", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.margins(x=0.03)
