"""What Tune wrote while a trial trained, and the picture of it."""

import json
from dataclasses import replace

from matplotlib.figure import Figure

from rllib_distill.evaluation.learning_curves import learning_curves_png
from rllib_distill.evaluation.training_record import TrainingRecord, evaluation_curve
from tests.evaluation.test_report import RECORD, board


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
    assert evaluation_curve(evaluations, "experts", "pong") == ([100.0, 200.0], [5.0, 7.0])
    assert evaluation_curve(evaluations, "experts", "breakout") == ([], [])

    legends = []
    monkeypatch.setattr(Figure, "legend", lambda figure, handles, labels, **_: legends.append(list(labels)))
    learning_curves_png(board(), record, "")
    learning_curves_png(board(), replace(record, results=({**results[0], "evaluation": {}},)), "")
    both = ["while training", "expert", "random", "student, final (mean ± std)"]
    more = ["student, evaluated", "expert, evaluated", "expert, final"]
    assert [sorted(labels) for labels in legends] == [sorted(both + more), sorted(both)]
