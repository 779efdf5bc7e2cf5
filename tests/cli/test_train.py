"""`rllib train` and `rllib evaluate` with real, tiny runs."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from ray.tune import register_trainable

from rllib_distill.cli.progress import ShowProgress
from rllib_distill.experts import Expert

pytestmark = pytest.mark.usefixtures("ray_session")
FILES = {"scores.json", "scores.csv", "learning_curves.png", "result.json", "checkpoint_000000"}


def only(folder: Path, pattern: str) -> Path:
    (path,) = folder.glob(pattern)
    return path


def test_that_a_file_is_trained_scored_and_reported(rllib, write_file, dqn, read_json, tmp_path):
    dqn["stop"] = {"training_iteration": 8}
    outcome = rllib("train", "file", write_file({"dqn": dqn}))

    assert outcome.code == 0, outcome
    last_line = next(line for line in outcome.out.splitlines() if line.startswith("dqn 100% | "))
    assert "env steps" in last_line and "return: pole" in last_line, outcome
    assert "policy" in outcome.out and "learning_curves.png" in outcome.out
    trial = only(tmp_path / "results" / "dqn", "dqn_*")
    assert {path.name for path in trial.iterdir()} >= FILES
    scores = read_json(trial / "scores.json")
    assert list(scores["tasks"]) == ["pole", "acrobot"]
    assert len(scores["tasks"]["pole"]["policy"]["returns"]) == 3
    assert scores["evaluation"] == {"episodes": 3, "epsilon": 0.05, "seed": 1}
    assert scores["training"]["env_steps"] > 0 and scores["training"]["seed"] == 7
    assert scores["config"]["double_q"] is True
    expert = Expert.load(trial / "checkpoint_000000" / "experts" / "acrobot.safetensors")
    assert expert.info.expected_return["mean"] == scores["tasks"]["acrobot"]["policy"]["mean"]

    flags = ["--episodes", 3, "--epsilon", 0.05, "--seed", 1, "--out", "again/scores.json"]
    again = rllib("evaluate", trial / "checkpoint_000000", *flags)
    assert again.code == 0, again
    assert read_json(Path("again/scores.json"))["tasks"] == scores["tasks"]

    flags = ["--steps", 100, "--epsilon", 0.05, "--out", "epoch.json"]
    epoch = rllib("evaluate", trial / "checkpoint_000000", *flags)
    assert epoch.code == 0 and "playing 100 steps of every task" in epoch.out, epoch
    assert "ended within 100 steps, epsilon 0.05" in " ".join(epoch.out.split())
    scores = read_json(Path("epoch.json"))
    assert scores["evaluation"] == {"steps": 100, "epsilon": 0.05, "seed": 0}
    acrobot = scores["tasks"]["acrobot"]["policy"]  # a game ends after 30 steps
    assert (acrobot["episodes"], acrobot["env_steps"], acrobot["mean_length"]) == (3, 100, 30.0)
    assert "human_normalised" not in acrobot and "unfinished" not in acrobot


def test_that_flags_train_a_student_from_relative_paths(rllib, mimic, read_json, tmp_path):
    flags = ["--config", json.dumps(mimic["config"]), "--stop", json.dumps(mimic["stop"]), "-n", "mimic"]
    flags += ["--storage-path", "elsewhere", "--no-checkpoint-at-end", "--checkpoint-freq", 2]
    outcome = rllib("train", "--run", "ActorMimic", *flags)

    assert outcome.code == 0, outcome
    assert "student / expert" in outcome.out and "geometric mean" in outcome.out
    scores = read_json(only(tmp_path / "elsewhere" / "mimic", "mimic_*/scores.json"))
    assert scores["measure"] == "ratio"
    assert scores["geometric_mean"] == pytest.approx(scores["tasks"]["pole"]["student_share"])


def test_that_an_interrupted_run_goes_on(rllib, write_file, dqn, monkeypatch, tmp_path):
    """GIVEN a fast and a slow trial and one that waits WHEN Ctrl-C comes THEN --resume does nothing twice.

    The fast one must not train on while the slow one's iteration takes its time, nor the third one instead.
    """
    dqn |= {"stop": {"training_iteration": 5}, "report": False}
    dqn["config"] |= {"min_time_s_per_iteration": {"grid_search": [0, 1, 0]}, "num_cpus_for_main_process": 2}
    dqn["config"]["lr"] = [["0%", 0.1], ["100%", 0.0]]
    file = write_file({"dqn": dqn})
    show, interrupts = ShowProgress.on_trial_result, []
    handler = signal.getsignal(signal.SIGINT)  # Tune, used by another test in this process, leaves its own

    def show_and_interrupt(self, iteration, trials, trial, result, **info):
        show(self, iteration, trials, trial, result, **info)
        if result["training_iteration"] == 2 and not interrupts:  # a second one would stop at once
            interrupts.append(trial)
            signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patched:
        patched.setattr(ShowProgress, "on_trial_result", show_and_interrupt)
        outcome = rllib("train", "file", file)
    assert outcome.code == 130 and "--resume" in outcome.out, outcome
    assert signal.getsignal(signal.SIGINT) is handler
    trials = sorted((tmp_path / "results" / "dqn").glob("dqn_*"))
    assert any(trial.glob("checkpoint_*") for trial in trials)
    before = {trial: _iterations(trial) for trial in trials}
    assert all(iterations == list(range(1, len(iterations) + 1)) for iterations in before.values())
    assert max(len(iterations) for iterations in before.values()) <= 3  # one may have been under way

    outcome = rllib("train", "file", file, "--resume")
    assert outcome.code == 0, outcome
    after = {trial: _iterations(trial) for trial in sorted((tmp_path / "results" / "dqn").glob("dqn_*"))}
    assert len(after) == 3 and all(iterations == [1, 2, 3, 4, 5] for iterations in after.values())
    assert all(after[trial][: len(iterations)] == iterations for trial, iterations in before.items())
    for trial in after:  # the schedule went on with the iterations
        last = json.loads((trial / "result.json").read_text().splitlines()[-1])
        rate = last["learners"]["pole"]["default_optimizer_learning_rate"]
        assert rate == pytest.approx(0.1 * (1 - 4 / 5))


def test_that_a_trial_that_fails_says_why(rllib, write_file, dqn, monkeypatch, tmp_path):
    """Ray was started in another folder: its workers can't import what this process can."""
    Path("my_wrapper.py").write_text("from gymnasium import Wrapper as MyWrapper\n")
    monkeypatch.syspath_prepend(tmp_path)
    dqn["config"]["tasks"] = {"pole": {"env": "CartPole-v1", "wrappers": ["my_wrapper.MyWrapper"]}}
    outcome = rllib("train", "file", write_file({"dqn": dqn}))
    assert outcome.code == 1
    assert "failed: dqn" in outcome.out and "my_wrapper" in outcome.out and "error.txt" in outcome.out


def test_that_an_algorithm_of_the_users_own_trains(write_file, dqn, read_json, tmp_path):
    """As people start it: what is in the current folder is found by the program and by Ray's workers."""
    (tmp_path / "my_algorithms.py").write_text(
        "from rllib_distill import MultiTaskDQN\nclass MyAlgorithm(MultiTaskDQN):\n    pass\n"
    )
    dqn |= {"run": "my_algorithms:MyAlgorithm", "stop": {"training_iteration": 1}, "report": {"episodes": 1}}
    program = [sys.executable, "-c", "from rllib_distill.cli import main; main()", "train", "file"]
    arguments = [write_file({"mine": dqn}), "--ray-num-cpus", "1"]
    done = subprocess.run([*program, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, (done.stdout, done.stderr)
    scores = read_json(only(tmp_path / "results" / "mine", "mine_*/scores.json"))
    assert scores["algorithm"] == "MyAlgorithm" and set(scores["tasks"]) == {"pole", "acrobot"}


def test_that_whatever_tune_knows_is_run(rllib, tmp_path):
    register_trainable("users_function", lambda config: {"score": 2 * config["width"]})
    outcome = rllib("train", "--run", "users_function", "--config", '{"width": 3}')
    assert outcome.code == 0, outcome
    result = only(tmp_path / "results" / "default", "default_*/result.json")
    assert json.loads(result.read_text().splitlines()[-1])["score"] == 6


def _iterations(trial: Path) -> list[int]:
    path = trial / "result.json"
    lines = path.read_text().splitlines() if path.exists() else []
    return [json.loads(line)["training_iteration"] for line in lines]
