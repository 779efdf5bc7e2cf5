"""One picture of learning curves, a panel per task."""

from matplotlib.axes import Axes

from rllib_distill.evaluation.panels import BLUE, GREY, INK, make_panels, panels_png
from rllib_distill.evaluation.score_board import EXPERT, POLICY, RANDOM, STUDENT, ScoreBoard
from rllib_distill.evaluation.training_record import TrainingRecord, evaluation_curve


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
    student = evaluation_curve(record.evaluations, "student", task)
    experts = evaluation_curve(record.evaluations, "experts", task)
    axes.plot(
        steps, returns, color=BLUE, linewidth=1.6, alpha=0.3 if student[0] else 1, label="while training"
    )
    if student[0]:
        axes.plot(*student, color=BLUE, linewidth=1.6, label=f"{learner}, evaluated")
    if experts[0]:
        axes.plot(*experts, color=INK, linewidth=1.2, label="expert, evaluated")
    axes.errorbar(
        [steps[-1]] if steps else [0.0],
        [board.mean(learner, task)],
        yerr=[board.std(learner, task)],
        color=BLUE,
        marker="o",
        markersize=4.5,
        capsize=2.5,
        linewidth=1.0,
        clip_on=False,
        label=f"{learner}, final (mean ± std)",
    )
    if EXPERT in board.players:
        label = "expert, final" if experts[0] else "expert"
        axes.axhline(board.mean(EXPERT, task), color=INK, linewidth=1.2, linestyle="--", label=label)
    axes.axhline(board.mean(RANDOM, task), color=GREY, linewidth=1.0, linestyle=":", label="random")
