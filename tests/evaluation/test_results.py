"""Tables, pictures and pages of recorded runs."""

import json
import math
from dataclasses import replace

import pytest

from rllib_distill.errors import DistillError
from rllib_distill.evaluation.json_text import json_text
from rllib_distill.evaluation.markdown import duration_text, number_text, setting_text, steps_text
from rllib_distill.evaluation.recorded_run import RecordedRun
from rllib_distill.evaluation.results_page import ResultsPage, Section
from rllib_distill.evaluation.share_table import ShareTable
from rllib_distill.evaluation.stability import Stability
from tests.evaluation.recorded import evaluations, run, save, score


@pytest.fixture
def read(tmp_path):
    """Returns a function that writes runs and reads them again, in the order of their names."""

    def read(**runs):
        save(tmp_path, **runs)
        return [RecordedRun.read(tmp_path / f"{name}.json") for name in sorted(runs)]

    return read


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
    (header, kl, mse), note = cells(ShareTable(runs, ["loss"]).to_markdown())
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
    (_, kl), _ = cells(ShareTable(runs, ["loss"]).to_markdown())
    assert kl[1:5] == ["0.650", "1.000", number_text((math.sqrt(0.9) + math.sqrt(0.4)) / 2), "0.949, 0.632"]


def test_that_a_seed_that_lacks_a_task_has_no_geometric_mean(read):
    runs = read(
        a=run({"pong": (1, 10, 9), "breakout": (1, 4, 4)}, loss="kl"),
        b=run({"pong": (1, 10, 9)}, seed=1, loss="kl"),
    )
    (_, kl), _ = cells(ShareTable(runs, ["loss"]).to_markdown())
    assert kl[1:5] == ["0.900", "1.000", "-", "0.949, -"]


def test_that_a_baseline_is_compared_with_the_other_runs_experts(read):
    runs = read(
        a=run({"pong": (1, 10, 9)}, loss="kl"),
        b=run({"pong": (1, 14, 9)}, seed=1, loss="kl"),
        c=run({"pong": (1, 6)}, algorithm="MultiTaskDQN"),
    )
    (_, mimic, dqn), note = cells(ShareTable(runs, ["algorithm", "loss"]).to_markdown())
    assert mimic[:2] == ["ActorMimic", "kl"]
    assert dqn[:3] == ["MultiTaskDQN", "-", "0.500"]  # 6 / 12
    assert "MultiTaskDQN had no experts" in note
    with pytest.raises(DistillError, match="no run has an expert of 'pong'"):
        ShareTable(runs[2:], ["algorithm"])


def test_that_all_shares_are_above_random_play_where_one_boards_are(read):
    runs = read(
        a=run({"pong": (-20, 10, 4)}, measure="normalised", loss="kl"),
        b=run({"breakout": (1, 5, 3)}, loss="kl"),
    )
    (_, kl), note = cells(ShareTable(runs, ["loss"]).to_markdown())
    assert kl[1:3] == ["0.800", "0.500"]  # 24 / 30 and 2 / 4
    assert "above random play, (student - random) / (expert - random)" in note


def test_that_a_score_of_what_was_cut_off_has_no_share(read):
    content = run({"pong": (1, 10, 9)}, loss="kl")
    content["tasks"]["pong"]["student"] = score(9, unfinished=True)
    (_, kl), _ = cells(ShareTable(read(a=content), ["loss"]).to_markdown())
    assert kl[1:4] == ["-", "-", "-"]


def test_that_rows_are_in_the_order_of_their_values_which_may_lie_deep(read):
    sizes = {"a": 128, "b": 16, "c": 64}
    runs = read(**{n: run({"pong": (1, 2, 2)}, network={"hidden": size}) for n, size in sizes.items()})
    (_, *rows), _ = cells(ShareTable(runs, ["network.hidden"]).to_markdown())
    assert [row[0] for row in rows] == ["16", "64", "128"]


def test_that_runs_that_cannot_be_told_apart_are_refused(read):
    runs = read(a=run({"pong": (1, 2, 2)}, loss="kl"), b=run({"pong": (1, 2, 1)}, loss="kl"))
    with pytest.raises(
        DistillError, match=r"a\.json and b\.json have the same seed \(0\) and task \('pong'\)"
    ):
        ShareTable(runs, ["loss"])


def test_that_a_key_that_no_run_has_is_refused(read):
    with pytest.raises(DistillError, match=r"'los', which no run has\. Did you mean 'loss'"):
        ShareTable(read(a=run({"pong": (1, 2, 2)}, loss="kl")), ["los"])


def test_that_stability_is_the_deviation_over_the_second_half(read):
    runs = read(
        a=run({"pong": (1, 10, 9)}, evaluations=evaluations([0, 8, 9, 9, 9], [0, 5, 4, 10, 7])),
        b=run({"pong": (1, 12, 11)}, seed=1, evaluations=evaluations([0, 0, 1, 3, 2], [0, 0, 5, 5, 5])),
    )
    (_, pong, total), _ = cells(Stability(runs).to_markdown())
    student, teacher = math.sqrt(2 / 3), math.sqrt(6)  # of 1, 3, 2 and of 4, 10, 7; 0 in the other run
    assert pong == [
        "pong",
        f"{student / 2:.2f}",
        f"{teacher / 2:.2f}",
        f"{student / teacher:.3f}",
        "10.00",
        "11.00",
        "0, 1",
    ]
    assert total[3] == pong[3]
    assert Stability(runs).picture("two seeds").startswith(b"\x89PNG")


def test_that_stability_needs_evaluations_of_experts_that_learn(read):
    with pytest.raises(DistillError, match=r"a\.json has no evaluations of 'pong'.*online"):
        Stability(read(a=run({"pong": (1, 10, 9)})))


def test_that_a_page_is_whole_and_the_same_every_time(read, tmp_path):
    losses = tuple(read(a=run({"pong": (1, 2, 2)}, loss="kl")))
    online = tuple(read(b=run({"pong": (1, 2, 2)}, evaluations=evaluations([1, 2], [2, 1]))))
    sections = [
        Section("Three losses", "They differ.", "scores", ("loss",), losses),
        Section("Learning: teachers!", "", "stability", (), online),
    ]
    page = ResultsPage("Results", "All.", sections)
    out = tmp_path / "page.md"
    files = page.write(out, "rllib results page.yaml")
    assert [path.name for path in files] == ["page_learning_teachers.png", "page.md"]
    text = out.read_text()
    parts = [
        "# Results",
        "All.",
        "## Three losses",
        "They differ.",
        "| kl | 1.000 |",
        "## Learning: teachers!",
        "](page_learning_teachers.png)",
        "## How this page was made",
        "`rllib results page.yaml`",
        "2 recorded runs",
        "- `rllib train file x.yaml` (2 runs)",
        "python 3.11.7, ray 2.60.0",
    ]
    places = [text.index(part) for part in parts]
    assert places == sorted(places) and "\n\n\n" not in text
    before = [path.read_bytes() for path in files]
    assert [path.read_bytes() for path in page.write(out, "rllib results page.yaml")] == before


def test_that_an_error_names_the_section_and_nothing_is_written(read, tmp_path):
    good = Section("Good", "", "scores", ("loss",), (*read(a=run({"pong": (1, 2, 2)}, loss="kl")),))
    with pytest.raises(DistillError, match="Section 'Bad': rows has the key 'tau'"):
        ResultsPage("x", "", [good, replace(good, title="Bad", rows=("tau",))]).write(
            tmp_path / "page.md", ""
        )
    assert not (tmp_path / "page.md").exists()


def test_that_a_record_has_all_but_the_returns(read):
    content = run({"pong": (1, 10, 9)}, loss="kl")
    with_returns = json.loads(json.dumps(content))
    for player in with_returns["tasks"]["pong"].values():
        player["returns"] = [1.0, 2.0]
    with_returns["tasks"]["pong"]["student_share"] = content["tasks"]["pong"]["student_share"] = 0.9
    (recorded,) = read(a=with_returns)
    assert json.loads(recorded.compact()) == content


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("{", "not valid JSON"),
        ("[]", "format None"),
        ('{"format": "rllib_distill.scores/7"}', r"scores/7'; it must be 'rllib_distill\.scores/1'"),
        ('{"format": "rllib_distill.scores/1", "tasks": {}}', "not a whole report: 'algorithm', "),
    ],
)
def test_that_what_is_no_record_is_refused(text, match, tmp_path):
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(DistillError, match=match):
        RecordedRun.read(path)
    with pytest.raises(DistillError, match="Cannot read"):
        RecordedRun.read(tmp_path / "gone.json")


def test_that_json_is_compact_and_says_the_same():
    value = {
        "returns": [1.0, 2.5],
        "lr": [[0, 0.1], [5, 0.2]],
        "none": {},
        "deep": {"a": [{"b": None}]},
        "e": [],
    }
    text = json_text(value)
    assert json.loads(text) == value
    assert '  "returns": [1.0, 2.5],\n  "lr": [\n    [0, 0.1],\n    [5, 0.2]\n  ],\n' in text


def test_that_numbers_are_readable():
    assert [steps_text(8.5e6), steps_text(850_000), steps_text(None)] == ["8.5 million", "850,000", "-"]
    assert [duration_text(s) for s in (45, 1680, 9000)] == ["45 s", "28 min", "2.5 h"]
    settings = [setting_text(value) for value in ("kl", 0.5, True, [[0, 1.0]], {"type": "mlp"}, None)]
    assert settings == ["kl", "0.5", "true", "[[0, 1.0]]", '{"type": "mlp"}', "-"]
