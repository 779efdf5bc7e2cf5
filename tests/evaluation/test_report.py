"""From returns to tables, files and pictures."""

import csv
import io
import json
import math
from dataclasses import replace

import pytest
from rich.console import Console

from rllib_distill.errors import DistillError
from rllib_distill.evaluation.files import write_atomically
from rllib_distill.evaluation.report import Report
from rllib_distill.evaluation.score_board import ScoreBoard
from rllib_distill.evaluation.table import score_table, summary_table
from rllib_distill.evaluation.training_record import TrainingRecord
from rllib_distill.sampling import EpisodeReturns


def board(random=(0.0, 1.0), expert=(10.0, 4.0), student=(9.0, 5.0)):
    """Two tasks; each score is the mean of two episodes, 1 apart from it."""
    players = {"random": random, "expert": expert, "student": student}
    return ScoreBoard(
        {
            player: {
                task: EpisodeReturns(task, (mean - 1.0, mean + 1.0), (3, 5))
                for task, mean in zip(("pong", "breakout"), means, strict=True)
            }
            for player, means in players.items()
            if means is not None
        }
    )


def printed(table):
    console = Console(file=io.StringIO(), width=120)
    console.print(table)
    return console.file.getvalue()


def test_that_shares_are_ratios_and_their_mean_is_geometric():
    scores = board()
    assert scores.measure == "ratio"
    assert [scores.student_share(task) for task in scores.tasks] == pytest.approx([0.9, 1.25])
    assert scores.geometric_mean == pytest.approx(math.sqrt(0.9 * 1.25))


@pytest.mark.parametrize(
    "changes", [{"expert": (-5.0, 4.0)}, {"student": (-5.0, 5.0)}, {"student": (0.0, 5.0)}]
)
def test_that_all_shares_are_normalised_where_one_score_is_not_above_0(changes):
    scores = board(random=(-20.0, 1.0), **changes)
    expert, student = scores.mean("expert", "pong"), scores.mean("student", "pong")
    assert scores.measure == "normalised"
    assert scores.student_share("pong") == pytest.approx((student + 20) / (expert + 20))
    assert scores.student_share("breakout") == pytest.approx((5 - 1) / (4 - 1))
    assert "(student - random) / (expert - random)" in printed(score_table(scores))


def test_that_an_expert_no_better_than_random_play_has_no_share():
    scores = board(random=(-5.0, 1.0), expert=(-5.0, 4.0))
    assert scores.student_share("pong") is None and scores.geometric_mean is None


def test_that_a_student_worse_than_random_play_has_no_geometric_mean():
    scores = board(random=(-5.0, 1.0), student=(-6.0, 4.0))
    assert scores.student_share("pong") < 0 and scores.geometric_mean is None


def test_that_policies_without_experts_have_no_share():
    scores = ScoreBoard({"random": board().episodes["random"], "policy": board().episodes["student"]})
    assert scores.measure is None and scores.geometric_mean is None
    assert "geometric" not in printed(score_table(scores))


def test_that_the_table_has_every_score():
    text = printed(score_table(board(), "mimic"))
    for part in ("mimic", "pong", "10.00 ± 1.00", "9.00 ± 1.00", "0.900", "geometric mean", "1.061"):
        assert part in text
    assert printed(summary_table({"seed=0": board(), "seed=1": board()})).count("1.061") == 3


RECORD = TrainingRecord(
    tuple(
        {
            "training_iteration": i,
            "num_env_steps_sampled_lifetime": 100 * i,
            "time_total_s": 2.0 * i,
            "env_runners": {"agent_episode_returns_mean": {"pong": float(i)}},
        }
        for i in (1, 2, 3)
    )
)


@pytest.fixture
def report():
    return Report(board(), RECORD, {"algorithm": "ActorMimic", "evaluation": {"episodes": 2, "seed": 0}})


def test_that_a_report_is_written_whole(report, tmp_path):
    files = report.write(tmp_path)
    assert [path.name for path in files] == ["scores.json", "scores.csv", "learning_curves.png"]
    assert sorted(tmp_path.iterdir()) == sorted(files)  # nothing temporary is left
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert scores["tasks"]["pong"]["student"]["returns"] == [8.0, 10.0]
    assert scores["tasks"]["pong"]["student_share"] == pytest.approx(0.9)
    assert scores["algorithm"] == "ActorMimic" and scores["measure"] == "ratio"
    rows = list(csv.DictReader((tmp_path / "scores.csv").open()))
    assert [row["task"] for row in rows] == ["pong", "breakout"]
    assert float(rows[1]["student_ratio"]) == 1.25 and float(rows[0]["expert_std"]) == 1.0
    assert (tmp_path / "learning_curves.png").read_bytes().startswith(b"\x89PNG")


def test_that_there_is_no_picture_without_a_record(report, tmp_path):
    names = [path.name for path in replace(report, record=TrainingRecord(())).write(tmp_path)]
    assert names == ["scores.json", "scores.csv"]


def test_that_a_record_forgets_what_a_restored_run_did_again(tmp_path):
    lines = [
        json.dumps({"training_iteration": i, "num_env_steps_sampled_lifetime": steps})
        for i, steps in ((1, 10), (2, 20), (3, 30), (2, 21), (3, 31))
    ]
    (tmp_path / "result.json").write_text("\n".join([*lines, '{"training_iter']))
    record = TrainingRecord.read(tmp_path)
    assert [result["num_env_steps_sampled_lifetime"] for result in record.results] == [10, 21, 31]
    assert record.env_steps == 31
    assert TrainingRecord.read(tmp_path / "gone").env_steps is None


def test_that_a_record_gives_curves():
    assert RECORD.returns("pong") == ([100.0, 200.0, 300.0], [1.0, 2.0, 3.0])
    assert RECORD.returns("breakout") == ([], [])


def test_that_a_file_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "scores.json"
    write_atomically(path, b"old")

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(DistillError, match=r"scores\.json: No space left"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]
