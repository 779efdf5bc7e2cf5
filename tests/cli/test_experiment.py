"""Reading experiments."""

from pathlib import Path

import pytest

from rllib_distill.cli.evaluate import beside_expected
from rllib_distill.cli.experiment import (
    CheckpointOptions,
    Experiment,
    TrainOptions,
    changed,
    grid_points,
    read_experiment_file,
    read_stop,
)
from rllib_distill.cli.progress import TrialProgress, line
from rllib_distill.cli.ray_session import check_writable
from rllib_distill.errors import DistillError


def test_that_defaults_are_those_of_the_old_program():
    experiment = Experiment.from_spec("a", {"run": "MultiTaskDQN"})
    assert experiment.storage_path == Path.cwd() / "results"
    assert experiment.checkpoint_config == CheckpointOptions(checkpoint_at_end=True)
    assert experiment.num_samples == 1 and experiment.report.episodes == 100


def test_that_the_file_decides_on_checkpoints():
    spec = {"run": "MultiTaskDQN", "checkpoint_config": {"checkpoint_at_end": False, "num_to_keep": 2}}
    options = Experiment.from_spec("a", spec).checkpoint_config
    assert (options.checkpoint_at_end, options.num_to_keep) == (False, 2)


def test_that_expert_paths_do_not_depend_on_a_trials_folder(mimic):
    path = Experiment.from_spec("a", mimic).config["experts"]["pole"]
    assert Path(path).is_absolute() and Path(path).exists()


def test_that_env_moves_into_the_config():
    assert Experiment.from_spec("a", {"run": "PPO", "env": "CartPole-v1"}).config == {"env": "CartPole-v1"}


def test_that_a_grid_has_all_its_points():
    grid = {"tau": {"grid_search": [1, 2]}, "optimizer": {"type": {"grid_search": ["adam", "rmsprop"]}}}
    points = [(point["tau"], point["optimizer"]["type"]) for point in grid_points(grid)]
    assert sorted(points) == [(1, "adam"), (1, "rmsprop"), (2, "adam"), (2, "rmsprop")]


def test_that_old_stop_keys_are_translated_with_a_note(capsys):
    assert read_stop({"timesteps_total": 5, "episode_reward_mean": 2.5}) == {
        "num_env_steps_sampled_lifetime": 5,
        "env_runners/episode_return_mean": 2.5,
    }
    assert "note: stop: timesteps_total" in capsys.readouterr().err


def test_that_nested_stop_keys_are_flattened():
    assert read_stop({"env_runners": {"episode_return_mean": 5}}) == {"env_runners/episode_return_mean": 5}


def test_that_progress_is_that_of_the_criterion_that_is_met_first():
    stop = {"time_total_s": 100, "training_iteration": 10}
    trial = TrialProgress("trial", stop, ())
    trial.update({"time_total_s": 20.0, "training_iteration": 5})
    assert trial.share == 0.5
    assert trial.seconds_left == 20.0  # five iterations took as long


def test_that_progress_is_unknown_where_only_a_return_stops():
    trial = TrialProgress("trial", {"env_runners/episode_return_mean": 5}, ())
    trial.update({"time_total_s": 20.0})
    assert trial.share is None and trial.seconds_left is None


def test_that_a_count_of_nothing_leaves_progress_as_it_is():
    """RLlib has NaN for the number of updates where an iteration made none."""
    key = "learners/__all_modules__/num_updates_lifetime"
    trial = TrialProgress("trial", {key: 40}, ())
    for count in (float("nan"), 10.0, float("nan")):
        trial.update({"time_total_s": 5.0, "learners": {"__all_modules__": {"num_updates_lifetime": count}}})
    assert trial.share == 0.25
    assert "25%" in line(trial)


def test_that_checking_a_folder_leaves_no_trace(tmp_path):
    check_writable(tmp_path / "a" / "b", "--out")
    assert not list(tmp_path.iterdir())
    (tmp_path / "file").write_text("")
    with pytest.raises(DistillError, match="Choose another --out"):
        check_writable(tmp_path / "file" / "b", "--out")


def test_that_experiments_share_settings_by_yamls_anchors(write_file):
    path = write_file(
        "first:\n  run: ActorMimic\n  config: &all\n    tau: 1\n    beta: 2\n"
        "second:\n  run: ActorMimic\n  config:\n    <<: *all\n    tau: 3\n"
    )
    specs = read_experiment_file(path)
    assert specs["first"]["config"] == {"tau": 1, "beta": 2}
    assert specs["second"]["config"] == {"tau": 3, "beta": 2}


def test_that_a_key_that_is_written_twice_is_refused_beside_an_anchor(write_file):
    text = "first: &all\n  tau: 1\nsecond:\n  <<: *all\n  tau: 3\n  tau: 4\n"
    with pytest.raises(DistillError, match="there twice"):
        read_experiment_file(write_file(text))


@pytest.mark.parametrize(
    "flags",
    [
        {"stop": {"training_iteration": 1}},
        {"config": {"tau": 1.0}},
        {"restore": "checkpoint"},
        {"scheduler": "ASHA"},
        {},
    ],
)
def test_that_nothing_is_expected_of_a_changed_file(flags):
    none = dict.fromkeys(TrainOptions.__dataclass_fields__)
    options = TrainOptions(**{**none, "checkpoint_config": {}, "scheduler": "FIFO", **flags})
    spec = {"run": "ActorMimic", "report": {"episodes": 3, "expected": [0.9, 1.0]}}
    report = changed(spec, options)["report"]
    assert report["episodes"] == 3 and ("expected" in report) == (not flags)


@pytest.mark.parametrize(
    ("mean", "said"),
    [(0.92, "0.920, within that"), (0.85, "0.850, below that"), (1.1, "above"), (None, "none, below that")],
)
def test_that_a_run_is_compared_with_what_is_expected(mean, said):
    line = beside_expected(mean, (0.9, 1.0))
    assert line.startswith("expected of this file: 0.90 to 1.00")
    assert said in line
