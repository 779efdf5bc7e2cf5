"""`rllib evaluate`: episodes or epochs, and the mistakes in asking for them."""

import pytest

from rllib_distill.cli.evaluate import beside_expected


@pytest.fixture
def checkpoint(rllib, write_file, dqn, tmp_path):
    """Of two iterations of MultiTaskDQN, without a report."""
    outcome = rllib("train", "file", write_file({"dqn": dqn | {"report": False}}))
    assert outcome.code == 0, outcome
    return next((tmp_path / "results" / "dqn").glob("dqn_*/checkpoint_*"))


def test_that_epochs_are_played_and_reported(rllib, checkpoint, read_json, tmp_path):
    outcome = rllib("evaluate", checkpoint, "--steps", 100, "--epsilon", 0.05, "--out", "scores.json")
    assert outcome.code == 0, outcome
    assert "playing 100 steps of every task" in outcome.out
    assert "ended within 100 steps, epsilon 0.05" in " ".join(outcome.out.split())
    scores = read_json(tmp_path / "scores.json")
    assert scores["evaluation"] == {"steps": 100, "epsilon": 0.05, "seed": 0}
    acrobot = scores["tasks"]["acrobot"]["policy"]  # a game ends after 30 steps
    assert (acrobot["episodes"], acrobot["env_steps"], acrobot["mean_length"]) == (3, 100, 30.0)
    assert "human_normalised" not in acrobot and "unfinished" not in acrobot


WRONG = {
    "negative steps": (["--steps", "-5"], "--steps"),
    "no steps": (["--steps", "0"], "--steps"),
    "steps that are no number": (["--steps", "many"], "--steps"),
    "two amounts": (["--steps", "50", "--episodes", "3"], "--episodes is 3", "--steps is 50", "only one"),
    "epsilon above 1": (["--epsilon", "1.5"], "--epsilon"),
}


@pytest.mark.parametrize("case", WRONG)
def test_that_wrong_flags_are_refused(case, rllib, tmp_path):
    flags, *parts = WRONG[case]
    outcome = rllib("evaluate", ".", *flags)
    assert outcome.code == 2 and outcome.err.startswith("error: ") and outcome.err.count("\n") == 1, outcome
    assert all(part in outcome.err for part in parts), outcome
    assert not list(tmp_path.iterdir())


def test_that_a_trials_folder_is_told_from_its_checkpoint(rllib, tmp_path):
    (tmp_path / "trial" / "checkpoint_000000").mkdir(parents=True)
    outcome = rllib("evaluate", "trial")
    assert outcome.code == 2 and "its checkpoint is trial/checkpoint_000000" in outcome.err, outcome


@pytest.mark.parametrize(
    ("report", "part"),
    [({"steps": 0}, "steps is 0"), ({"steps": 5, "episodes": 3}, "either"), ({"step": 5}, "steps")],
)
def test_that_a_files_wrong_report_is_refused(report, part, rllib, write_file, dqn):
    outcome = rllib("train", "file", write_file({"dqn": dqn | {"report": report}}))
    assert outcome.code == 2 and part in outcome.err and outcome.err.count("\n") == 1, outcome


@pytest.mark.parametrize(
    ("mean", "said"),
    [(0.92, "0.920, within that"), (0.85, "0.850, below that"), (1.1, "above"), (None, "none, below that")],
)
def test_that_a_run_is_compared_with_what_is_expected(mean, said):
    line = beside_expected(mean, (0.9, 1.0))
    assert line.startswith("expected of this file: 0.90 to 1.00")
    assert said in line
