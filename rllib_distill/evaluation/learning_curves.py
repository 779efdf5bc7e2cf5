"""One picture of learning curves, a panel per task."""

from matplotlib.axes import Axes

from rllib_distill.evaluation.panels import BLUE, GREY, INK, ORANGE, make_panels, panels_png
from rllib_distill.evaluation.score_board import DISTILLED, EXPERT, POLICY, RANDOM, STUDENT, ScoreBoard
from rllib_distill.evaluation.training_record import TrainingRecord, task_curve


def learning_curves_png(board: ScoreBoard, record: TrainingRecord, title: str) -> bytes:
    """Draws returns against env steps, with experts and random play as levels.

    Args:
        board: Final scores.
        record: Of the training.
        title: Above all.

    Returns:
        A PNG file.
    """
    figure, panels = make_panels(board.tasks, title)
    for task, axes in panels.items():
        _draw_task(axes, task, board, record)
    return panels_png(figure, panels)


def _draw_task(axes: Axes, task: str, board: ScoreBoard, record: TrainingRecord) -> None:
    learner = STUDENT if STUDENT in board.players else POLICY
    steps, returns = record.returns(task)
    end = steps[-1] if steps else 0.0
    evaluated = {
        who: task_curve(record.evaluations, who, task) for who in ("student", "distilled", "experts")
    }
    alpha = 0.3 if evaluated["student"][0] else 1
    axes.plot(steps, returns, color=BLUE, linewidth=1.6, alpha=alpha, label="while training")
    for who, name, colour, width in (
        ("student", learner, BLUE, 1.6),
        ("distilled", DISTILLED, ORANGE, 1.6),
        ("experts", EXPERT, INK, 1.2),
    ):
        if evaluated[who][0]:
            axes.plot(*evaluated[who], color=colour, linewidth=width, label=f"{name}, evaluated")
    _draw_final(axes, end, task, board, learner, BLUE)
    if DISTILLED in board.players:
        _draw_final(axes, end, task, board, DISTILLED, ORANGE)
    if EXPERT in board.players:
        label = "expert, final" if evaluated["experts"][0] else "expert"
        axes.axhline(board.mean(EXPERT, task), color=INK, linewidth=1.2, linestyle="--", label=label)
    axes.axhline(board.mean(RANDOM, task), color=GREY, linewidth=1.0, linestyle=":", label="random")


def _draw_final(axes: Axes, at: float, task: str, board: ScoreBoard, player: str, colour: str) -> None:
    axes.errorbar(
        [at],
        [board.mean(player, task)],
        yerr=[board.std(player, task)],
        color=colour,
        marker="o",
        markersize=4.5,
        capsize=2.5,
        linewidth=1.0,
        clip_on=False,
        label=f"{player}, final (mean ± std)",
    )
