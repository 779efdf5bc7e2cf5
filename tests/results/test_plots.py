"""Pictures of recorded runs: what is drawn, where, and what it is called."""

import pytest
from matplotlib.figure import Figure, SubFigure

from rllib_distill.results.plots import curve_picture, stability_picture
from rllib_distill.results.tables import CurveOptions
from tests.results.recorded import distral, evaluations, run


def test_that_rows_have_nicer_labels_and_the_legend_has_their_order(table, monkeypatch):
    legends = []
    monkeypatch.setattr(
        SubFigure, "legend", lambda figure, handles, labels, title, **_: legends.append((title, list(labels)))
    )
    options = CurveOptions(threshold=0.5, labels={"kl_2col, 1": "KL", "a3c, 0": "A3C"})
    runs = {
        "x": distral("a3c", [0, 10], a=[0, 1]),
        "y": distral("kl_2col", [0, 10], a=[2, 2]),
        "z": distral("kl_ent_2col", [0, 10], a=[1, 1]),
    }
    for content, alpha in zip(runs.values(), (0.0, 1.0, 0.5), strict=True):
        content["config"]["alpha"] = alpha
    curves = table(("variant", "alpha"), options, **runs)
    lines = curves.to_markdown().splitlines()
    assert lines[0].startswith("| variant, alpha | area")
    assert [line.split(" | ")[0] for line in lines[2:5]] == ["| KL", "| kl_ent_2col, 0.5", "| A3C"]
    assert curve_picture(curves, "three").startswith(b"\x89PNG")
    assert legends == [("variant, alpha", ["KL", "kl_ent_2col, 0.5", "A3C", "threshold, 0.5"])]


@pytest.fixture
def drawn(monkeypatch):
    """The panels of each picture that is made."""
    pictures = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *_, **__: pictures.append(figure.axes))
    return pictures


@pytest.mark.parametrize(("num_tasks", "panels"), [(1, 1), (2, 3), (8, 9), (9, 1)])
def test_that_two_to_eight_tasks_have_panels_of_their_own(num_tasks, panels, table, drawn):
    returns = {f"task_{i}": [0, i] for i in range(num_tasks)}
    runs = {"x": distral("a3c", [0, 10], **returns), "y": distral("a3c", [0, 9], seed=1, **returns)}
    curve_picture(table(**runs), "x")
    (axes,) = drawn
    titles = [panel.get_title(loc="left") for panel in axes]
    of_what = "task 0" if num_tasks == 1 else f"mean of {num_tasks} tasks"
    assert titles == [
        f"{of_what}, and from the worst seed to the best",
        *(f"task {i}" for i in range(panels - 1)),
    ]


def test_that_a_row_is_a_line_in_a_band_until_its_first_seed_ends(table, drawn):
    runs = {"x": distral("a3c", [0, 10, 30], a=[0, 2, 2]), "y": distral("a3c", [5, 20], seed=1, a=[0, 6])}
    curve_picture(table(**runs), "x")
    ((panel,),) = drawn
    (line,) = panel.lines
    # At 0, 5, 10 and 20 the seeds have 0, 1, 2, 2 and 0, 0, 2, 6.
    assert (line.get_xdata().tolist(), line.get_ydata().tolist()) == ([0, 5, 10, 20], [0.0, 0.5, 2.0, 4.0])
    (band,) = panel.collections
    outline = {tuple(point) for point in band.get_paths()[0].vertices.tolist()}
    assert outline == {(0, 0), (5, 0), (5, 1), (10, 2), (20, 2), (20, 6)}


def test_that_a_row_can_be_drawn_whose_seeds_have_no_steps_in_common(table):
    late = distral("a3c", [100, 200], seed=1, a=[1, 1])
    curves = table(x=distral("a3c", [0, 50], a=[0, 1]), y=late)
    assert curve_picture(curves, "x").startswith(b"\x89PNG")


def test_that_what_is_far_below_before_areas_begin_is_not_shown(table, drawn):
    content = distral("a3c", [0, 100, 200], a=[-1000, 0, 2])
    curve_picture(table(x=content, options=CurveOptions(from_env_steps=100)), "x")
    curve_picture(table(x=content), "x")
    ((short,), (whole,)) = drawn
    assert short.get_ylim() == (0.0, pytest.approx(2.1))
    assert whole.get_ylim()[0] < -1000


def test_that_students_and_teachers_are_drawn_for_every_seed(read, drawn):
    runs = read(
        a=run({"pong": (1, 2, 2)}, evaluations=evaluations([1, 2], [3, 4])),
        b=run({"pong": (1, 2, 2)}, seed=1, evaluations=evaluations([5, 6], [7, 8])),
    )
    stability_picture(runs, "two seeds")
    ((panel, *_),) = drawn
    assert [(line.get_label(), line.get_ydata().tolist()) for line in panel.lines] == [
        ("teacher", [3, 4]),
        ("student", [1, 2]),
        ("teacher", [7, 8]),
        ("student", [5, 6]),
    ]
