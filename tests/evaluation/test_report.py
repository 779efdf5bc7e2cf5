"""The record of a training, and the report's files."""

import csv
import io
import json
from dataclasses import replace

import pytest

from rllib_distill.evaluation.report import Report, TrainingRecord, games_of
from rllib_distill.evaluation.scores import score_csv
from rllib_distill.tasks.task import TaskSpec
from tests.evaluation.examples import board, evaluated, with_epochs

EVALUATION = {
    "env_runners": {"agent_episode_returns_mean": {"pong": 2.5}},
    "num_healthy_workers": 0,  # RLlib's, in the results of iterations with an evaluation of their own
}
RECORD = TrainingRecord(
    tuple(
        {
            "training_iteration": i,
            "num_env_steps_sampled_lifetime": 100 * i,
            "time_total_s": 2.0 * i,
            "env_runners": {"agent_episode_returns_mean": {"pong": float(i)}},
            "evaluation": evaluation,
        }
        for i, evaluation in ((1, {}), (2, {}), (3, EVALUATION))
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
    assert scores["evaluations"] == RECORD.evaluations == [{"env_steps": 300, "student": {"pong": 2.5}}]
    assert scores["training_curve"] == [
        {"env_steps": 100 * i, "seconds": 2.0 * i, "returns": {"pong": float(i)}} for i in (1, 2, 3)
    ]
    rows = list(csv.DictReader((tmp_path / "scores.csv").open()))
    assert [row["task"] for row in rows] == ["pong", "breakout"]
    assert float(rows[1]["student_ratio"]) == 1.25 and float(rows[0]["expert_std"]) == 1.0
    assert (tmp_path / "learning_curves.png").read_bytes().startswith(b"\x89PNG")


def test_that_there_is_no_picture_without_a_record(report, tmp_path):
    names = [path.name for path in replace(report, record=TrainingRecord(())).write(tmp_path)]
    assert names == ["scores.json", "scores.csv"]


def test_that_files_say_how_it_was_played(report):
    scores = json.loads(report.to_json())["tasks"]["pong"]["student"]
    assert (scores["episodes"], scores["env_steps"]) == (2, 8) and "unfinished" not in scores
    row = next(csv.DictReader(io.StringIO(score_csv(board(epsilon=0.05)))))
    assert (row["student_episodes"], row["epsilon"]) == ("2", "0.05") and "steps" not in row

    epochs = with_epochs(report.board, unfinished=["student"])
    scores = json.loads(replace(report, board=epochs).to_json())["tasks"]["pong"]
    assert (scores["student"]["env_steps"], scores["student"]["unfinished"]) == (20, True)
    assert "unfinished" not in scores["expert"]
    row = next(csv.DictReader(io.StringIO(score_csv(epochs))))
    assert (row["steps"], row["unfinished"]) == ("20", "student")


def test_that_only_ales_games_by_the_papers_rules_are_games_of_the_table():
    envs = {
        "a": {"env": "ALE/SpaceInvaders-v5", "env_config": {"frame_stack": 4}},
        "b": {"env": "ALE/SpaceInvaders-v5", "env_config": {"repeat_action_probability": 0.25}},
        "c": "ALE/Tetris-v5",
        "d": "MinAtar/Breakout-v1",
        "e": "breakout",
        "f": TaskSpec,
        "g": {"env": "ALE/Pong-v5", "max_episode_steps": 50},
        "h": {"env": "ALE/Pong-v5", "wrappers": ["gymnasium.wrappers.FlattenObservation"]},
    }
    specs = {name: TaskSpec.from_config(name, env) for name, env in envs.items()}
    assert games_of(specs) == {"a": "space_invaders"}


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


def trained(steps, **returns):
    """A result of `steps` env steps, trained in as many tenths of a second."""
    return {
        "num_env_steps_sampled_lifetime": float(steps),
        "time_total_s": steps / 10,
        "env_runners": {"agent_episode_returns_mean": returns},
    }


def test_that_few_results_are_the_curves_points():
    results = (trained(0), trained(10, a=1.0), trained(20, a=2.0, b=float("nan")), trained(30, a=3.0, b=5.0))
    assert TrainingRecord(results).curve == [
        {"env_steps": 10, "seconds": 1.0, "returns": {"a": 1.0}},
        {"env_steps": 20, "seconds": 2.0, "returns": {"a": 2.0}},
        {"env_steps": 30, "seconds": 3.0, "returns": {"a": 3.0, "b": 5.0}},
    ]
    assert TrainingRecord(()).curve == TrainingRecord((trained(5),)).curve == []


def test_that_many_results_are_averaged_in_ranges_of_equal_env_steps():
    """1,001 results from 0 to 1,000 steps: each of 200 ranges has 5, the last 6."""
    curve = TrainingRecord(tuple(trained(i, a=float(i)) for i in range(1001))).curve
    assert len(curve) == 200
    assert [point["env_steps"] for point in curve] == [2 + 5 * i for i in range(199)] + [998]  # 997.5
    assert curve[1] == {"env_steps": 7, "seconds": 0.7, "returns": {"a": 7.0}}
    assert curve[-1]["returns"]["a"] == pytest.approx(997.5)


def test_that_a_task_is_averaged_over_the_results_that_have_it_and_gaps_are_no_points():
    """All but one of 300 results are in the last hundredth of the steps."""
    late = (trained(9_900 + i / 2, a=1.0, **({"b": float(i)} if i % 2 else {})) for i in range(201))
    curve = TrainingRecord((trained(0, a=4.0), *late)).curve
    assert [point["env_steps"] for point in curve] == [0, 9_925, 9_975]
    assert [point["returns"] for point in curve] == [
        {"a": 4.0},
        {"a": 1.0, "b": 50.0},
        {"a": 1.0, "b": 150.0},
    ]


def test_that_evaluations_are_those_of_their_own_iterations():
    results = ({"training_iteration": 1}, evaluated(2), evaluated(3, fresh=False), evaluated(4))
    assert TrainingRecord(results).evaluations == [
        {"env_steps": 200, "student": {"pong": 2.0}},
        {"env_steps": 400, "student": {"pong": 4.0}},
    ]


def test_that_evaluations_have_experts_that_learn_and_a_distilled_policy():
    results = (evaluated(1, student=1.0, pong_expert=5.0), evaluated(2, student=2.0, pong_expert=7.0))
    record = TrainingRecord(results, {"pong": "pong_expert", "breakout": "breakout_expert"})
    assert [evaluation["experts"] for evaluation in record.evaluations] == [{"pong": 5.0}, {"pong": 7.0}]

    result = evaluated(1)
    result["evaluation"]["env_runners"]["distilled_episode_returns_mean"] = {"pong": 4.0}
    assert TrainingRecord((result,)).evaluations == [
        {"env_steps": 100, "student": {"pong": 1.0}, "distilled": {"pong": 4.0}},
    ]
