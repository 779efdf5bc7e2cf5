"""One picture of learning curves, a panel per task."""

import io
import math

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator

from rllib_distill.evaluation.score_board import EXPERT, POLICY, RANDOM, STUDENT, ScoreBoard
from rllib_distill.evaluation.training_record import TrainingRecord

_BLUE, _GREY, _INK = "#2a6fbb", "#8a8f98", "#22262d"
_MOST_COLUMNS = 5


def learning_curves_png(board: ScoreBoard, record: TrainingRecord, title: str) -> bytes:
    """Draws training returns against env steps, with experts and random play as levels.

    Args:
        board: Final scores.
        record: Of the training.
        title: Above all.

    Returns:
        A PNG file.
    """
    columns = min(len(board.tasks), _MOST_COLUMNS)
    rows = math.ceil(len(board.tasks) / columns)
    figure = Figure(figsize=(max(6.0, 2.9 * columns), 2.7 * rows + 0.9), layout="constrained", dpi=150)
    figure.suptitle(title, x=0.01, ha="left", color=_INK, fontsize=12, fontweight="bold")
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes, task in zip(grid.flat, board.tasks, strict=False):
        _draw_task(axes, task, board, record)
    for axes in grid.flat[len(board.tasks) :]:
        axes.set_axis_off()
    for axes in grid[-1]:  # not the figure's own label, which the legend would cover
        axes.set_xlabel("env steps of all games", color=_INK, fontsize=8)
    figure.supylabel("return per episode", color=_INK, fontsize=9)
    handles, labels = grid.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False, fontsize=9)
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return file.getvalue()


def _draw_task(axes: Axes, task: str, board: ScoreBoard, record: TrainingRecord) -> None:
    learner = STUDENT if STUDENT in board.players else POLICY
    steps, returns = record.returns(task)
    axes.plot(steps, returns, color=_BLUE, linewidth=1.6, label="while training")
    axes.errorbar(
        [steps[-1]] if steps else [0.0],
        [board.mean(learner, task)],
        yerr=[board.std(learner, task)],
        color=_BLUE,
        marker="o",
        markersize=4.5,
        capsize=2.5,
        linewidth=1.0,
        clip_on=False,
        label=f"{learner}, final (mean ± std)",
    )
    if EXPERT in board.players:
        axes.axhline(board.mean(EXPERT, task), color=_INK, linewidth=1.2, linestyle="--", label="expert")
    axes.axhline(board.mean(RANDOM, task), color=_GREY, linewidth=1.0, linestyle=":", label="random")
    axes.set_title(task.replace("_", " "), loc="left", fontsize=10, color=_INK)
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.tick_params(labelsize=8, colors=_GREY)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(_GREY)
    axes.grid(axis="y", color="#e6e8eb", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.margins(x=0.03)
    axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]) if axes.dataLim.y0 < 0 else 0.0)
