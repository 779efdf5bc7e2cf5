"""What Tune wrote while a trial trained, and the picture of it."""

import json
from dataclasses import replace

import pytest
from matplotlib.figure import Figure

from rllib_distill.evaluation.learning_curves import learning_curves_png
from rllib_distill.evaluation.training_record import TrainingRecord, task_curve
from tests.evaluation.test_report import RECORD, board, with_distilled


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


def evaluated(iteration, fresh=True, **modules):
    """A result with an evaluation; one that RLlib merely repeats lacks the count of workers."""
    returns = {
        "agent_episode_returns_mean": {"pong": float(iteration)},
        "module_episode_returns_mean": modules,
    }
    return {
        "training_iteration": iteration,
        "num_env_steps_sampled_lifetime": 100.0 * iteration,
        "time_total_s": 1.0,
        "evaluation": {"env_runners": returns, **({"num_healthy_workers": 0} if fresh else {})},
    }


def test_that_evaluations_are_those_of_their_own_iterations():
    results = ({"training_iteration": 1}, evaluated(2), evaluated(3, fresh=False), evaluated(4))
    assert TrainingRecord(results).evaluations == [
        {"env_steps": 200, "student": {"pong": 2.0}},
        {"env_steps": 400, "student": {"pong": 4.0}},
    ]


def test_that_experts_that_learn_have_curves_and_are_drawn(monkeypatch):
    results = (evaluated(1, student=1.0, pong_expert=5.0), evaluated(2, student=2.0, pong_expert=7.0))
    record = TrainingRecord(results, {"pong": "pong_expert", "breakout": "breakout_expert"})
    evaluations = record.evaluations
    assert [e["experts"] for e in evaluations] == [{"pong": 5.0}, {"pong": 7.0}]
    assert task_curve(evaluations, "experts", "pong") == ([100.0, 200.0], [5.0, 7.0])
    assert task_curve(evaluations, "experts", "breakout") == ([], [])

    legends = []
    monkeypatch.setattr(Figure, "legend", lambda figure, handles, labels, **_: legends.append(list(labels)))
    learning_curves_png(board(), record, "")
    learning_curves_png(board(), replace(record, results=({**results[0], "evaluation": {}},)), "")
    both = ["while training", "expert", "random", "student, final (mean ± std)"]
    more = ["student, evaluated", "expert, evaluated", "expert, final"]
    assert [sorted(labels) for labels in legends] == [sorted(both + more), sorted(both)]


def test_that_a_distilled_policy_has_curves_and_is_drawn(monkeypatch):
    results = tuple(evaluated(i) for i in (1, 2))
    for i, result in enumerate(results, 1):
        result["evaluation"]["env_runners"]["distilled_episode_returns_mean"] = {"pong": 3.0 + i}
    record = TrainingRecord(results)
    assert record.evaluations == [
        {"env_steps": 100, "student": {"pong": 1.0}, "distilled": {"pong": 4.0}},
        {"env_steps": 200, "student": {"pong": 2.0}, "distilled": {"pong": 5.0}},
    ]
    assert task_curve(record.evaluations, "distilled", "pong") == ([100.0, 200.0], [4.0, 5.0])

    legends = []
    monkeypatch.setattr(Figure, "legend", lambda figure, handles, labels, **_: legends.append(list(labels)))
    learning_curves_png(with_distilled(board()), record, "")
    (labels,) = legends
    assert sorted(labels) == sorted(
        ["while training", "policy, evaluated", "distilled, evaluated", "random"]
        + [f"{player}, final (mean ± std)" for player in ("policy", "distilled")]
    )
