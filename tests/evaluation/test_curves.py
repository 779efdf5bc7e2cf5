"""Curves over env steps: their areas, what they reach, and the table and picture of many."""

import math

import numpy as np
import pytest
from matplotlib.figure import Figure, SubFigure

from rllib_distill.errors import DistillError
from rllib_distill.evaluation.curve import Curve, mean_of_curves
from rllib_distill.evaluation.curve_groups import CurveOptions
from rllib_distill.evaluation.curve_table import CurveTable
from rllib_distill.evaluation.recorded_run import RecordedRun
from rllib_distill.evaluation.results_page import ResultsPage, Section
from tests.evaluation.recorded import run, save, training_curve


def curve(steps, values):
    return Curve(np.array(steps, float), np.array(values, float))


@pytest.fixture
def table(tmp_path):
    """Returns a function that records runs of tasks `a` and `b` and compares them by their variant."""

    def table(keys=("variant",), options=None, **runs):
        save(tmp_path, **runs)
        read = [RecordedRun.read(tmp_path / f"{name}.json") for name in sorted(runs)]
        return CurveTable(read, keys, options or CurveOptions())

    return table


def distral(variant, steps, seed=0, **returns):
    """A run of Distral with those training returns."""
    scores = {task: (0.0, 1.0) for task in returns}
    curve = training_curve(steps, **returns)
    return run(scores, seed=seed, algorithm="Distral", variant=variant, curve=curve)


def rows_of(markdown):
    table, _, note = markdown.partition("\n\n")
    header, _, *rows = ([cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines())
    return header, rows, note


def test_that_the_mean_is_the_area_of_trapezoids_level_outside_of_the_points():
    line = curve([10, 20, 40], [1, 3, 0])
    assert line.mean(10, 20) == 2.0
    assert line.mean(10, 40) == pytest.approx((20 + 30) / 30)
    assert line.mean(0, 50) == pytest.approx((10 + 20 + 30 + 0) / 50)  # 1 before the first, 0 after the last
    assert line.mean(15, 30) == pytest.approx((5 * 2.5 + 10 * 2.25) / 15)  # 2 at 15, 1.5 at 30
    assert curve([10], [4]).mean(0, 100) == 4.0


def test_that_a_mean_over_curves_has_the_points_of_all():
    mean = mean_of_curves([curve([0, 10], [0, 10]), curve([5, 10], [1, 1])])
    assert mean.steps.tolist() == [0, 5, 10]
    assert mean.values.tolist() == [0.5, 3.0, 5.5]


def test_that_a_level_is_reached_by_the_mean_of_five_points():
    line = curve(range(10, 90, 10), [0, 9, 0, 1, 0, 5, 6, 7])  # means from the fifth on: 2, 3, 2.4, 3.8
    assert [line.first_reach(level, 80) for level in (2.0, 2.1, 3.0, 3.1)] == [50, 60, 60, 80]
    assert line.first_reach(3.1, 79) == line.first_reach(4.0, 80) == math.inf
    assert curve([10, 20], [1, 3]).first_reach(2.0, 20) == 20  # of fewer points: all


def test_that_rows_have_areas_and_final_returns_over_seeds_the_largest_first(table):
    """Over the first 100 steps, where the shortest run ends; both tasks count alike."""
    header, rows, note = rows_of(
        table(
            low=distral("a3c", [0, 100], a=[0, 2], b=[0, 0]),  # the mean over tasks goes from 0 to 1
            x=distral("kl_2col", [0, 100], a=[1, 1], b=[1, 3]),  # from 1 to 2
            y=distral("kl_2col", [0, 50, 200], seed=1, a=[0, 4, 4], b=[0, 2, 2]),  # 0, 3, 3
        ).to_markdown()
    )
    assert header == ["variant", "area under the curve", "final return", "seeds", "env steps"]
    # Seed 0: 1.5, and (1.9 + 2) / 2 at the end; seed 1: (75 + 150) / 100, and 3.
    assert rows == [
        ["kl_2col", "1.875 ± 0.375", "2.475 ± 0.525", "2", "150"],
        ["a3c", "0.500", "0.950", "1", "100"],
    ]
    assert "from 0 to 100; final return" in note and "threshold" not in note


def test_that_areas_begin_where_one_says(table):
    content = distral("a3c", [0, 100, 200], a=[-1000, 0, 2])
    _, ((_, area, final, *_),), note = rows_of(
        table(x=content, options=CurveOptions(from_env_steps=100)).to_markdown()
    )
    assert (area, final) == ("1.000", "1.900")  # of 100 to 200, and of 190 to 200
    assert "from 100 to 200" in note


def test_that_a_task_whose_first_episode_ends_late_has_its_first_return_before(table):
    content = distral("a3c", [0, 50, 100], a=[1, 1, 1], b=[None, 2, 4])
    _, ((_, area, *_),), _ = rows_of(table(x=content).to_markdown())
    assert area == "1.750"  # (1 + (2 + 3) / 2) / 2


def test_that_env_steps_until_a_threshold_are_the_median_of_the_seeds(table):
    steps = list(range(100, 1100, 100))
    rise = {seed: [0.0] * seed + [1.0] * (10 - seed) for seed in (0, 2, 4)}  # five 1s by 500, 700 and 900
    runs = {f"x{seed}": distral("kl_2col", steps, seed=seed, a=a) for seed, a in rise.items()}
    never = {
        f"y{seed}": distral("a3c", steps, seed=seed, a=rise[0] if seed else [0.0] * 10) for seed in (0, 1)
    }
    header, rows, note = rows_of(table(**runs, **never, options=CurveOptions(threshold=1.0)).to_markdown())
    assert header[3] == "env steps to 1" and "Env steps to 1: until" in note
    assert [row[3] for row in rows] == ["700", "-"]


def test_that_of_some_settings_only_the_best_values_are_shown(table):
    runs = {
        f"{variant}{beta}": distral(variant, [0, 10], a=[area, area])
        for variant, beta, area in (("a3c", 1, 3), ("a3c", 2, 1), ("kl_2col", 1, 4), ("kl_2col", 2, 5))
    }
    for name, content in runs.items():
        content["config"]["beta"] = int(name[-1])
    curves = table(("variant", "beta"), CurveOptions(best_of=("beta",)), **runs)
    header, rows, note = rows_of(curves.to_markdown())
    assert header[3] == "areas of all settings"
    assert [(row[0], row[3]) for row in rows] == [
        ("kl_2col, 2", "4.000 to 5.000"),
        ("a3c, 1", "1.000 to 3.000"),
    ]
    assert "Of the values of beta, the best by area are shown, out of up to 2" in note
    for best_of, match in ((("lr",), "'lr', which rows has not"), (("beta", "variant"), "all of rows")):
        with pytest.raises(DistillError, match=match):
            table(("variant", "beta"), CurveOptions(best_of=best_of), **runs)


def test_that_decimals_fit_the_largest_area(table):
    runs = {"x": distral("a3c", [0, 10], a=[350, 351]), "y": distral("kl_2col", [0, 10], a=[2, 2])}
    _, rows, _ = rows_of(table(**runs).to_markdown())
    assert [row[1] for row in rows] == ["350.5", "2.0"]


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
    header, rows, _ = rows_of(curves.to_markdown())
    assert header[0] == "variant, alpha"
    assert [row[0] for row in rows] == ["KL", "kl_ent_2col, 0.5", "A3C"]
    assert curves.picture("three").startswith(b"\x89PNG")
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
    table(x=distral("a3c", [0, 10], **returns), y=distral("a3c", [0, 9], seed=1, **returns)).picture("x")
    (axes,) = drawn
    titles = [panel.get_title(loc="left") for panel in axes]
    of_what = "task 0" if num_tasks == 1 else f"mean of {num_tasks} tasks"
    assert titles == [
        f"{of_what}, and from the worst seed to the best",
        *(f"task {i}" for i in range(panels - 1)),
    ]


def test_that_a_row_is_a_line_in_a_band_until_its_first_seed_ends(table, drawn):
    table(x=distral("a3c", [0, 10, 30], a=[0, 2, 2]), y=distral("a3c", [5, 20], seed=1, a=[0, 6])).picture(
        "x"
    )
    ((panel,),) = drawn
    (line,) = panel.lines
    # At 0, 5, 10 and 20 the seeds have 0, 1, 2, 2 and 0, 0, 2, 6.
    assert (line.get_xdata().tolist(), line.get_ydata().tolist()) == ([0, 5, 10, 20], [0.0, 0.5, 2.0, 4.0])
    (band,) = panel.collections
    outline = {tuple(point) for point in band.get_paths()[0].vertices.tolist()}
    assert outline == {(0, 0), (5, 0), (5, 1), (10, 2), (20, 2), (20, 6)}


def test_that_a_row_can_be_drawn_whose_seeds_have_no_steps_in_common(table):
    late = distral("a3c", [100, 200], seed=1, a=[1, 1])
    assert table(x=distral("a3c", [0, 50], a=[0, 1]), y=late).picture("x").startswith(b"\x89PNG")


def test_that_what_is_far_below_before_areas_begin_is_not_shown(table, drawn):
    content = distral("a3c", [0, 100, 200], a=[-1000, 0, 2])
    table(x=content, options=CurveOptions(from_env_steps=100)).picture("x")
    table(x=content).picture("x")
    ((short,), (whole,)) = drawn
    assert short.get_ylim() == (0.0, pytest.approx(2.1))
    assert whole.get_ylim()[0] < -1000


WRONG_RUNS = {
    "no curve": (
        {"x": run({"a": (0, 1)}, variant="kl_2col")},
        "x.json has no training_curve: .*rllib evaluate",
    ),
    "an empty curve": ({"x": distral("kl_2col", [], a=[])}, "x.json has no training_curve"),
    "a task without a return": (
        {"x": distral("kl_2col", [0, 10], a=[1, 1], b=[None, None])},
        "x.json has no return of 'b': not one episode",
    ),
    "other tasks": (
        {"x": distral("kl_2col", [0, 10], a=[1, 1]), "y": distral("a3c", [0, 10], b=[1, 1])},
        r"x\.json has no task 'b'.*means over different tasks",
    ),
    "two of a seed": (
        {"x": distral("a3c", [0, 10], a=[1, 1]), "y": distral("a3c", [0, 10], a=[1, 1])},
        r"x\.json and y\.json have the same seed",
    ),
    "too short": (
        {"x": distral("a3c", [0, 300], a=[1, 1]), "y": distral("kl_2col", [0, 100], a=[1, 1])},
        r"from_env_steps is 100, but y\.json was trained for 100 env steps",
    ),
    "unknown label": ({"x": distral("a3c", [0, 300], a=[1, 1])}, r"labels has 'kl_2col', which is no row"),
}


@pytest.mark.parametrize("case", WRONG_RUNS)
def test_that_runs_that_cannot_be_compared_are_refused(case, table):
    runs, match = WRONG_RUNS[case]
    labels = {"kl_2col": "KL"} if case == "unknown label" else {}
    with pytest.raises(DistillError, match=match):
        table(options=CurveOptions(from_env_steps=100 if case == "too short" else 0, labels=labels), **runs)


def test_that_curves_are_a_section_of_a_page(tmp_path):
    save(tmp_path, x=distral("a3c", [0, 10], a=[0, 1]))
    section = Section("Curves", "", "curves", ("variant",), (RecordedRun.read(tmp_path / "x.json"),))
    files = ResultsPage("Results", "", [section]).write(tmp_path / "page.md", "")
    assert [path.name for path in files] == ["page_curves.png", "page.md"]
    text = files[1].read_text()
    assert "| a3c | 0.500 |" in text and "![Curves: returns while training](page_curves.png)" in text
