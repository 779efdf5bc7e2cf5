"""The picture of a trial's learning curves."""

import pytest
from matplotlib.figure import Figure

from rllib_distill.evaluation.plots import learning_curves_png
from tests.evaluation.examples import board, with_distilled

RETURNS = {"pong": ([100.0, 200.0], [1.0, 2.0]), "breakout": ([], [])}


@pytest.fixture
def drawn(monkeypatch):
    """The figures that are drawn."""
    figures = []
    save = Figure.savefig
    monkeypatch.setattr(
        Figure,
        "savefig",
        lambda figure, *args, **options: (figures.append(figure), save(figure, *args, **options)),
    )
    return figures


def lines(axes):
    """Label -> points of the lines that are curves, in a panel."""
    curves = {line.get_label(): line.get_xydata().tolist() for line in axes.lines}
    return {label: points for label, points in curves.items() if "evaluated" in label or "training" in label}


def labels(figure):
    (legend,) = figure.legends
    return sorted(text.get_text() for text in legend.get_texts())


def test_that_experts_that_learn_are_drawn_beside_the_student(drawn):
    evaluations = [
        {"env_steps": step, "student": {"pong": student}, "experts": {"pong": expert}}
        for step, student, expert in ((100, 1.0, 5.0), (200, 2.0, 7.0))
    ]
    assert learning_curves_png(board(), RETURNS, evaluations, "title").startswith(b"\x89PNG")
    learning_curves_png(board(), RETURNS, [], "title")
    pong, breakout, *_ = drawn[0].axes
    assert lines(pong) == {
        "while training": [[100.0, 1.0], [200.0, 2.0]],
        "student, evaluated": [[100.0, 1.0], [200.0, 2.0]],
        "expert, evaluated": [[100.0, 5.0], [200.0, 7.0]],
    }
    assert lines(breakout) == {"while training": []}
    both = ["while training", "expert", "random", "student, final (mean ± std)"]
    more = ["student, evaluated", "expert, evaluated", "expert, final"]
    assert [labels(figure) for figure in drawn] == [sorted(both + more), sorted(both)]


def test_that_a_distilled_policy_is_drawn_beside_the_tasks_own(drawn):
    evaluations = [{"env_steps": 100, "student": {"pong": 1.0}, "distilled": {"pong": 4.0}}]
    learning_curves_png(with_distilled(board()), RETURNS, evaluations, "title")
    (figure,) = drawn
    assert lines(figure.axes[0]) == {
        "while training": [[100.0, 1.0], [200.0, 2.0]],
        "policy, evaluated": [[100.0, 1.0]],
        "distilled, evaluated": [[100.0, 4.0]],
    }
    assert labels(figure) == sorted(
        ["while training", "policy, evaluated", "distilled, evaluated", "random"]
        + [f"{policy}, final (mean ± std)" for policy in ("policy", "distilled")]
    )
