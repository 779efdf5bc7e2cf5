"""A picture with one panel per task."""

import io
import math
from collections.abc import Sequence

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator

BLUE, ORANGE, GREY, INK = "#2a6fbb", "#d55e00", "#8a8f98", "#22262d"
_MOST_COLUMNS = 5
_INCHES_PER_LABEL = 2.3  # of a legend


def make_panels(tasks: Sequence[str], title: str) -> tuple[Figure, dict[str, Axes]]:
    """An empty picture of returns against env steps.

    Args:
        tasks: At least one.
        title: Above all.

    Returns:
        The figure, and task -> where to draw it.
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
    for axes in grid[-1]:  # not the figure's own label, which the legend would cover
        axes.set_xlabel("env steps of all tasks", color=INK, fontsize=8)
    figure.supylabel("return per episode", color=INK, fontsize=9)
    return figure, panels


def panels_png(figure: Figure, panels: dict[str, Axes]) -> bytes:
    """Finishes what was drawn: axes from 0 where nothing is below, one legend for all panels.

    Args:
        figure: Of `make_panels`.
        panels: As well.

    Returns:
        A PNG file.
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
    """The figure as a PNG file."""
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return file.getvalue()


def style_panel(axes: Axes, task: str) -> None:
    """Titles an empty panel; its lines are thin and its ticks few."""
    axes.set_title(task.replace("_", " "), loc="left", fontsize=10, color=INK)
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.tick_params(labelsize=8, colors=GREY)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(GREY)
    axes.grid(axis="y", color="#e6e8eb", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.margins(x=0.03)
