"""Tables of recorded runs: shares, stability and curves."""

import math

import pytest

from rllib_distill.errors import DistillError
from rllib_distill.results.runs import setting_text
from rllib_distill.results.tables import (
    CurveOptions,
    duration_text,
    number_text,
    share_table,
    stability_table,
    steps_text,
)
from tests.results.recorded import distral, evaluations, run, score


def cells(markdown):
    """The rows of the table in a text, the first being the header; and what follows it."""
    table, _, rest = markdown.partition("\n\n")
    header, _, *rows = ([cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines())
    return [header, *rows], rest


def test_that_a_row_has_means_over_seeds_and_the_geometric_mean_of_each(read):
    runs = read(
        a=run({"pong": (1, 10, 9), "breakout": (1, 4, 4)}, seed=1, loss="kl"),
        b=run({"pong": (1, 10, 10), "breakout": (1, 4, 1)}, seed=0, loss="kl"),
        c=run({"pong": (1, 10, 5), "breakout": (1, 4, 2)}, seed=0, loss="mse"),
    )
    (header, kl, mse), note = cells(share_table(runs, ["loss"]))
    assert header[:3] == ["loss", "pong", "breakout"]
    assert header[3:] == ["geometric mean", "of each seed", "seeds", "env steps", "time"]
    # 0.95 = (0.9 + 1) / 2; 0.625 = (1 + 0.25) / 2; seed 0: sqrt(0.25), seed 1: sqrt(0.9) = 0.9487
    assert kl == ["kl", "0.950", "0.625", "0.724", "0.500, 0.949", "0, 1", "2.5 million", "10 min"]
    assert mse[:5] == ["mse", "0.500", "0.500", "0.500", "0.500"]
    assert "student / expert, of the mean return of 4 episodes at epsilon 0.01" in note


def test_that_runs_of_single_tasks_are_one_row(read):
    runs = read(
        a=run({"pong": (1, 10, 9)}, loss="kl"),
        b=run({"breakout": (1, 4, 4)}, loss="kl"),
        c=run({"pong": (1, 10, 4)}, seed=1, loss="kl"),
        d=run({"breakout": (1, 4, 4)}, seed=1, loss="kl"),
    )
    (_, kl), _ = cells(share_table(runs, ["loss"]))
    assert kl[1:5] == ["0.650", "1.000", number_text((math.sqrt(0.9) + math.sqrt(0.4)) / 2), "0.949, 0.632"]


def test_that_a_seed_that_lacks_a_task_has_no_geometric_mean(read):
    runs = read(
        a=run({"pong": (1, 10, 9), "breakout": (1, 4, 4)}, loss="kl"),
        b=run({"pong": (1, 10, 9)}, seed=1, loss="kl"),
    )
    (_, kl), _ = cells(share_table(runs, ["loss"]))
    assert kl[1:5] == ["0.900", "1.000", "-", "0.949, -"]


def test_that_a_baseline_is_compared_with_the_other_runs_experts(read):
    runs = read(
        a=run({"pong": (1, 10, 9)}, loss="kl"),
        b=run({"pong": (1, 14, 9)}, seed=1, loss="kl"),
        c=run({"pong": (1, 6)}, algorithm="MultiTaskDQN"),
    )
    (_, mimic, dqn), note = cells(share_table(runs, ["algorithm", "loss"]))
    assert mimic[:2] == ["ActorMimic", "kl"]
    assert dqn[:3] == ["MultiTaskDQN", "-", "0.500"]  # 6 / 12
    assert "MultiTaskDQN had no experts" in note
    with pytest.raises(DistillError, match="no run has an expert of 'pong'"):
        share_table(runs[2:], ["algorithm"])


def test_that_all_shares_are_above_random_play_where_one_boards_are(read):
    runs = read(
        a=run({"pong": (-20, 10, 4)}, measure="normalised", loss="kl"),
        b=run({"breakout": (1, 5, 3)}, loss="kl"),
    )
    (_, kl), note = cells(share_table(runs, ["loss"]))
    assert kl[1:3] == ["0.800", "0.500"]  # 24 / 30 and 2 / 4
    assert "above random play, (student - random) / (expert - random)" in note


def test_that_a_score_of_what_was_cut_off_has_no_share(read):
    content = run({"pong": (1, 10, 9)}, loss="kl")
    content["tasks"]["pong"]["student"] = score(9, unfinished=True)
    (_, kl), _ = cells(share_table(read(a=content), ["loss"]))
    assert kl[1:4] == ["-", "-", "-"]


def test_that_rows_are_in_the_order_of_their_values_which_may_lie_deep(read):
    sizes = {"a": 128, "b": 16, "c": 64}
    runs = read(**{n: run({"pong": (1, 2, 2)}, network={"hidden": size}) for n, size in sizes.items()})
    (_, *rows), _ = cells(share_table(runs, ["network.hidden"]))
    assert [row[0] for row in rows] == ["16", "64", "128"]


def test_that_runs_that_cannot_be_told_apart_are_refused(read):
    runs = read(a=run({"pong": (1, 2, 2)}, loss="kl"), b=run({"pong": (1, 2, 1)}, loss="kl"))
    with pytest.raises(DistillError, match=r"a\.json and b\.json have the same seed \(0\) and task \('pong'"):
        share_table(runs, ["loss"])


def test_that_a_key_that_no_run_has_is_refused(read):
    with pytest.raises(DistillError, match=r"'los', which no run has\. Did you mean 'loss'"):
        share_table(read(a=run({"pong": (1, 2, 2)}, loss="kl")), ["los"])


def test_that_stability_is_the_deviation_over_the_second_half(read):
    runs = read(
        a=run({"pong": (1, 10, 9)}, evaluations=evaluations([0, 8, 9, 9, 9], [0, 5, 4, 10, 7])),
        b=run({"pong": (1, 12, 11)}, seed=1, evaluations=evaluations([0, 0, 1, 3, 2], [0, 0, 5, 5, 5])),
    )
    (_, pong, total), _ = cells(stability_table(runs))
    student, teacher = math.sqrt(2 / 3), math.sqrt(6)  # of 1, 3, 2 and of 4, 10, 7; 0 in the other run
    deviations = [f"{student / 2:.2f}", f"{teacher / 2:.2f}", f"{student / teacher:.3f}"]
    assert pong == ["pong", *deviations, "10.00", "11.00", "0, 1"]
    assert total[3] == pong[3]


def test_that_stability_needs_evaluations_of_experts_that_learn(read):
    with pytest.raises(DistillError, match=r"a\.json has no evaluations of 'pong'.*online"):
        stability_table(read(a=run({"pong": (1, 10, 9)})))


def test_that_numbers_are_readable():
    assert [steps_text(8.5e6), steps_text(850_000), steps_text(math.nan)] == ["8.5 million", "850,000", "-"]
    assert [duration_text(s) for s in (45, 1680, 9000)] == ["45 s", "28 min", "2.5 h"]
    settings = [setting_text(value) for value in ("kl", 0.5, True, [[0, 1.0]], {"type": "mlp"}, None)]
    assert settings == ["kl", "0.5", "true", "[[0, 1.0]]", '{"type": "mlp"}', "-"]


def test_that_rows_have_areas_and_final_returns_over_seeds_the_largest_first(table):
    """Over the first 100 steps, where the shortest run ends; both tasks count alike."""
    (header, *rows), note = cells(
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
    (_, (_, area, final, *_)), note = cells(
        table(x=content, options=CurveOptions(from_env_steps=100)).to_markdown()
    )
    assert (area, final) == ("1.000", "1.900")  # of 100 to 200, and of 190 to 200
    assert "from 100 to 200" in note


def test_that_a_task_whose_first_episode_ends_late_has_its_first_return_before(table):
    content = distral("a3c", [0, 50, 100], a=[1, 1, 1], b=[None, 2, 4])
    (_, (_, area, *_)), _ = cells(table(x=content).to_markdown())
    assert area == "1.750"  # (1 + (2 + 3) / 2) / 2


def test_that_env_steps_until_a_threshold_are_the_median_of_the_seeds(table):
    steps = list(range(100, 1100, 100))
    rise = {seed: [0.0] * seed + [1.0] * (10 - seed) for seed in (0, 2, 4)}  # five 1s by 500, 700 and 900
    runs = {f"x{seed}": distral("kl_2col", steps, seed=seed, a=a) for seed, a in rise.items()}
    never = {
        f"y{seed}": distral("a3c", steps, seed=seed, a=rise[0] if seed else [0.0] * 10) for seed in (0, 1)
    }
    (header, *rows), note = cells(table(**runs, **never, options=CurveOptions(threshold=1.0)).to_markdown())
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
    (header, *rows), note = cells(curves.to_markdown())
    assert header[3] == "areas of all settings"
    shown = [(row[0], row[3]) for row in rows]
    assert shown == [("kl_2col, 2", "4.000 to 5.000"), ("a3c, 1", "1.000 to 3.000")]
    assert "Of the values of beta, the best by area are shown, out of up to 2" in note
    for best_of, match in ((("lr",), "'lr', which rows has not"), (("beta", "variant"), "all of rows")):
        with pytest.raises(DistillError, match=match):
            table(("variant", "beta"), CurveOptions(best_of=best_of), **runs)


def test_that_decimals_fit_the_largest_area(table):
    runs = {"x": distral("a3c", [0, 10], a=[350, 351]), "y": distral("kl_2col", [0, 10], a=[2, 2])}
    (_, *rows), _ = cells(table(**runs).to_markdown())
    assert [row[1] for row in rows] == ["350.5", "2.0"]


WRONG_RUNS = {
    "no curve": ({"x": run({"a": (0, 1)}, variant="a3c")}, "x.json has no training_curve: .*rllib evaluate"),
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
