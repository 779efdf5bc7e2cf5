"""A whole algorithm in one process: train, evaluate, save, restore; and as a trial of Tune."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from ray import tune

from rllib_distill import ActorMimic, ActorMimicConfig, register
from rllib_distill.experts import Expert
from tests.algorithms.every import state_of
from tests.configs import RETURN
from tests.learners import learner_of

pytestmark = pytest.mark.usefixtures("ray_session")
EXPERT = "tuned_examples/experts/minatar/breakout.safetensors"
SCHEDULE = [[0, 1.0], [10_000, 0.0]]


@pytest.fixture(scope="module")
def loaded_experts():
    """All experts that were loaded for the algorithm, for the check of its config and by its runner."""
    return []


@pytest.fixture(scope="module")
def trained(actor_mimic, ray_session, loaded_experts):
    """An algorithm after six iterations, and the results of each."""
    config = actor_mimic(beta=0.1, lr=[[0, 0.01], [10_000, 0.0]], epsilon=SCHEDULE)
    with pytest.MonkeyPatch.context() as patch:
        load = ActorMimicConfig.load_experts

        def remember(self):
            loaded_experts.append(load(self))
            return loaded_experts[-1]

        patch.setattr(ActorMimicConfig, "load_experts", remember)
        algo = config.build_algo()
    results = [algo.train() for _ in range(6)]
    yield algo, results
    algo.stop()


@pytest.fixture(scope="module")
def restored(trained, tmp_path_factory):
    """(algorithm, its folder, a new one from its checkpoint, what the first was like when it was saved)."""
    algo, _ = trained
    folder = tmp_path_factory.mktemp("checkpoint")
    algo.save_to_path(folder)
    before = state_of(algo)
    again = ActorMimic.from_checkpoint(folder)
    yield algo, folder, again, before
    again.stop()


def test_that_learning_starts_when_every_task_has_enough_and_pays_for_every_step(trained):
    _, results = trained
    steps = [r["env_runners"]["num_env_steps_sampled_lifetime"] for r in results]
    updates = [r["learners"].get("__all_modules__", {}).get("num_updates_lifetime", 0) for r in results]
    assert updates[:2] == [0, 0]  # the replay buffer held nothing of each task, and then 24 rows of 40
    for steps_so_far, updates_so_far in zip(steps[2:], updates[2:], strict=True):
        paid_for = (steps_so_far - steps[1]) * 1.0 / 12  # training intensity / batch size
        assert -1e-6 < paid_for - updates_so_far < 1.0 + 1e-6
    assert updates[-1] > 5


def test_that_results_have_rllibs_keys_and_ours(trained):
    result = trained[1][-1]
    runners, student = result["env_runners"], result["learners"]["student"]
    for key in ("episode_return_mean", "episode_len_mean", "num_episodes_lifetime", "episode_return_max"):
        assert np.isfinite(runners[key]), key
    for task in ("short", "long"):
        assert np.isfinite(runners["agent_episode_returns_mean"][task])
        assert runners["num_agent_steps_sampled_lifetime"][task] > 0
        for key in ("policy_regression_loss", "feature_regression_loss"):
            assert student[key][task] > 0
        assert 0 <= student["greedy_agreement"][task] <= 1
    assert np.isfinite(runners["module_episode_returns_mean"]["student"])
    assert student["total_loss"] > 0
    assert result["learners"]["__all_modules__"]["num_env_steps_trained_lifetime"] > 0
    assert result["num_env_steps_sampled_lifetime"] == runners["num_env_steps_sampled_lifetime"]


def test_that_what_acts_is_what_was_learned(trained):
    algo, _ = trained
    learned, acting = learner_of(algo).module["student"], algo.env_runner.module["student"]
    for name, parameter in acting.network.state_dict().items():
        assert (parameter == learned.network.state_dict()[name]).all()
    initial = algo.config.get_multi_rl_module_spec().build()["student"].network.head.weight
    assert (initial != acting.network.head.weight).any()
    assert algo.module_weights()["student"].keys() == {
        f"network.{name}" for name in acting.network.state_dict()
    }


def test_that_evaluation_compares_with_the_experts_and_leaves_training_alone(trained):
    algo, _ = trained
    before, steps_before = state_of(algo, draws=False), algo.elapsed().env_steps
    evaluation = algo.evaluate()["env_runners"]
    for task in ("short", "long"):
        mean = evaluation["agent_episode_returns_mean"][task]
        assert len(evaluation["agent_episode_returns"][task]) == 4
        assert mean == pytest.approx(np.mean(evaluation["agent_episode_returns"][task]))
        assert evaluation["student_expert_ratio"][task] == pytest.approx(mean / RETURN["mean"])
    assert evaluation["num_episodes"] == 8
    assert state_of(algo, draws=False) == before
    steps = algo.train()["env_runners"]["num_env_steps_sampled_lifetime"]
    assert 0 < steps - steps_before <= 48


def test_that_an_evaluation_within_training_reports_the_ratios_too(trained):
    algo, _ = trained
    config = algo.config
    algo.config = config.copy(copy_frozen=False).evaluation(evaluation_interval=1)
    try:
        assert set(algo.train()["evaluation"]["env_runners"]["student_expert_ratio"]) == {"short", "long"}
    finally:
        algo.config = config


def test_that_experts_did_not_move_and_are_in_no_checkpoint(restored, loaded_experts, paths):
    _, folder, again, _ = restored
    names = learner_of(again).module["student"].state_dict()
    assert not [name for name in names if "expert" in name and "feature_regressors" not in name]
    assert loaded_experts
    for task in ("short", "long"):
        saved = Expert.load(paths[task]).network.state_dict()
        for experts in loaded_experts:
            moved = experts[task].network.state_dict()
            assert all(torch.equal(moved[name], weights) for name, weights in saved.items())
    weights = saved["head.weight"].numpy().tobytes()
    files = [file for file in Path(folder).rglob("*") if file.is_file()]
    assert len(files) > 5
    assert not [file for file in files if weights in file.read_bytes()]


def test_that_a_checkpoint_brings_everything_back(restored):
    _, _, again, before = restored
    assert len(learner_of(again).store) >= 40
    assert state_of(again) == before


def test_that_a_restored_run_goes_on_without_filling_its_replay_buffer_again(restored, epsilons):
    _, _, again, _ = restored
    learner, runner_steps = learner_of(again), again.env_runner.num_env_steps_sampled_lifetime
    updates, lr_before = learner.num_updates, learner.get_optimizer("student").param_groups[0]["lr"]
    again.training_step()
    assert learner.num_updates >= updates + 3  # 48 steps, 12 rows each: the first step learns already
    assert epsilons == pytest.approx([1.0 - runner_steps / 10_000] * 8)
    assert again.env_runner.num_env_steps_sampled_lifetime > runner_steps > 0
    lr = learner.get_optimizer("student").param_groups[0]["lr"]
    assert lr == pytest.approx(0.01 * (1 - again.elapsed().env_steps / 10_000))
    assert lr < lr_before


def test_that_an_older_checkpoint_can_be_restored_in_place(restored):
    algo, folder, _, before = restored
    algo.train()
    algo.train()
    algo.restore_from_path(folder)
    assert state_of(algo) == before


def test_that_a_checkpoint_that_cannot_be_written_is_an_error(trained, monkeypatch, tmp_path):
    algo, _ = trained

    def no_space(folder):
        raise OSError("no space left")

    monkeypatch.setattr(learner_of(algo), "save_store", no_space)
    with pytest.raises(OSError, match="no space left"):
        algo.save_to_path(tmp_path)


# -- where checkpoints lie -----------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["student", "./student", Path("student")])
def test_that_relative_paths_mean_the_working_directory_which_rllib_refuses(
    trained, path, tmp_path, monkeypatch
):
    algo, _ = trained
    monkeypatch.chdir(tmp_path)
    assert algo.save_to_path(path) == str(tmp_path / "student")
    assert (tmp_path / "student" / "replay" / "rank_0.pkl").exists()
    algo.restore_from_path(path)


def test_that_a_file_uri_is_the_path_where_the_replay_buffers_lie(trained, tmp_path):
    assert trained[0].save_to_path(f"file://{tmp_path}") == str(tmp_path)
    assert (tmp_path / "replay" / "rank_0.pkl").exists()


def test_that_without_a_path_rllib_chooses_one(trained):
    saved = Path(trained[0].save_to_path())
    assert (saved / "replay" / "rank_0.pkl").exists()
    shutil.rmtree(saved)


def test_that_remote_storage_is_refused_rather_than_written_to_a_folder_of_its_name(
    trained, refused, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    for use in (trained[0].save_to_path, trained[0].restore_from_path, ActorMimic.from_checkpoint):
        with refused("s3://bucket/student", "local or mounted folder"):
            use("s3://bucket/student")
    assert not list(tmp_path.iterdir())


# -- as a trial of Tune --------------------------------------------------------------------------------------


def test_that_tuner_takes_a_name_a_config_a_sweep_a_stop_and_paths_of_the_users_folder(tmp_path):
    register()
    config = (
        ActorMimicConfig()
        .multi_task(tasks={"breakout": "MinAtar/Breakout-v1"}, num_envs_per_task=2)
        .experts({"breakout": EXPERT})
        .training(
            tau=tune.grid_search([0.1, 1.0]),
            lr=[["0%", 0.1], ["100%", 0.0]],
            stop={"training_iteration": 4},
            num_steps_sampled_before_learning_starts=32,
        )
        .env_runners(rollout_fragment_length=16)
        .reporting(min_time_s_per_iteration=0)
    )
    run = tune.RunConfig(storage_path=str(tmp_path), verbose=0)  # the config says when to stop
    results = tune.Tuner("ActorMimic", param_space=config, run_config=run).fit()
    assert not results.errors
    assert sorted(result.config["tau"] for result in results) == [0.1, 1.0]
    assert [result.metrics["training_iteration"] for result in results] == [4, 4]
    students = [result.metrics["learners"]["student"] for result in results]
    assert all(student["total_loss"] > 0 for student in students)
    rates = [student["default_optimizer_learning_rate"] for student in students]
    assert rates == pytest.approx([0.025, 0.025])  # when the last iteration began, three quarters were done
