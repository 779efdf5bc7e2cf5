"""A whole ActorMimic in one process: train, evaluate, save, restore."""

from pathlib import Path

import numpy as np
import pytest
import torch

from rllib_distill.algorithms.actor_mimic import ActorMimic
from rllib_distill.experts import Expert
from tests.algorithms.conftest import RETURN

pytestmark = pytest.mark.usefixtures("ray_session")
SCHEDULE = [[0, 1.0], [10_000, 0.0]]


@pytest.fixture(scope="module")
def trained(actor_mimic, ray_session):
    """An algorithm after six iterations, and the results of each."""
    algo = actor_mimic(beta=0.1, lr=[[0, 0.01], [10_000, 0.0]], epsilon=SCHEDULE).build_algo()
    results = [algo.train() for _ in range(6)]
    yield algo, results
    algo.stop()


@pytest.fixture(scope="module")
def restored(trained, tmp_path_factory):
    """(algorithm, its folder, a new one from its checkpoint, what the first was like when it was saved)."""
    algo, _ = trained
    folder = tmp_path_factory.mktemp("checkpoint")
    algo.save_to_path(folder)
    before = snapshot(algo)
    again = ActorMimic.from_checkpoint(folder)
    yield algo, folder, again, before
    again.stop()


def learner_of(algo):
    return algo.learner_group._learner


def snapshot(algo):
    """Everything that a checkpoint must bring back, as bytes and numbers."""
    learner, runner = learner_of(algo), algo.env_runner
    optimizer = learner.get_optimizer("student")
    return {
        "weights": {name: p.detach().clone() for name, p in learner.module["student"].state_dict().items()},
        "acting": {name: p.detach().clone() for name, p in runner.module["student"].state_dict().items()},
        "moments": [s["exp_avg"].clone() for s in optimizer.state.values()],
        "lr": optimizer.param_groups[0]["lr"],
        "replay": plain({t: [r.get_state() for r in rs.values()] for t, rs in learner.memory._rings.items()}),
        "updates": learner.num_updates,
        "owed": algo._minibatches_owed,
        "iteration": algo.iteration,
        "env_steps": algo._env_steps_lifetime(),
        "runner_steps": runner.num_env_steps_sampled_lifetime,
    }


def plain(state):
    """Copies that `==` compares; pickles of equal arrays differ in whether they share a dtype."""
    if isinstance(state, np.ndarray):
        return state.dtype.str, state.shape, state.tobytes()
    if isinstance(state, dict):
        return {key: plain(value) for key, value in state.items()}
    return [plain(value) for value in state] if isinstance(state, list | tuple) else state


def assert_equal(one, other):
    for name in ("weights", "acting", "moments"):
        torch.testing.assert_close(one[name], other[name], rtol=0, atol=0)
    for name in one.keys() - {"weights", "acting", "moments"}:
        assert one[name] == other[name], name


def test_that_learning_starts_when_every_task_has_enough_and_pays_for_every_step(trained):
    _, results = trained
    updates = [
        r["learners"]["__all_modules__"].get("num_updates_lifetime", 0) for r in results if r["learners"]
    ]
    assert updates == sorted(updates)
    assert updates[-1] > 0
    per_step = 1.0 / 12  # replay ratio / batch size
    steps = [r["env_runners"]["num_env_steps_sampled_lifetime"] for r in results]
    assert updates[-1] - updates[-2] == pytest.approx((steps[-1] - steps[-2]) * per_step, abs=1)
    assert sum(updates) / per_step < sum(steps) * len(steps)


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


def test_that_epsilon_follows_the_steps_of_all_iterations(trained):
    algo, results = trained
    steps = results[-1]["env_runners"]["num_env_steps_sampled_lifetime"]
    assert algo.env_runner._epsilon(True) == pytest.approx(1.0 - steps / 10_000)


def test_that_evaluation_compares_with_the_experts_and_leaves_training_alone(trained):
    algo, results = trained
    before = snapshot(algo)
    evaluation = algo.evaluate()["env_runners"]
    for task in ("short", "long"):
        mean = evaluation["agent_episode_returns_mean"][task]
        assert len(evaluation["agent_episode_returns"][task]) == 4
        assert mean == pytest.approx(np.mean(evaluation["agent_episode_returns"][task]))
        assert evaluation["student_expert_ratio"][task] == pytest.approx(mean / RETURN["mean"])
    assert evaluation["num_episodes"] == 8
    assert_equal(before, snapshot(algo))
    result = algo.train()
    steps = result["env_runners"]["num_env_steps_sampled_lifetime"]
    assert 0 < steps - results[-1]["env_runners"]["num_env_steps_sampled_lifetime"] <= 48


def test_that_an_evaluation_within_training_reports_the_ratios_too(trained):
    algo, _ = trained
    algo.config._is_frozen = False
    algo.config.evaluation_interval = 1
    try:
        assert set(algo.train()["evaluation"]["env_runners"]["student_expert_ratio"]) == {"short", "long"}
    finally:
        algo.config.evaluation_interval = None


def test_that_experts_did_not_move_and_are_in_no_checkpoint(trained, restored, paths):
    algo, _ = trained
    _, folder, _, before = restored
    assert not [name for name in before["weights"] if "expert" in name and "feature_regressors" not in name]
    for task, expert in algo.env_runner.experts.items():
        saved = Expert.load(paths[task]).network.state_dict()
        assert all((p == saved[name]).all() for name, p in expert.network.state_dict().items())
    weights = saved["head.weight"].numpy().tobytes()
    files = [file for file in Path(folder).rglob("*") if file.is_file()]
    assert len(files) > 5
    assert not [file for file in files if weights in file.read_bytes()]


def test_that_a_checkpoint_brings_everything_back(restored):
    _, _, again, before = restored
    assert len(learner_of(again).memory) >= 40
    assert_equal(before, snapshot(again))


def test_that_a_restored_run_goes_on_without_filling_its_memory_again(restored):
    _, _, again, before = restored
    learner, updates = learner_of(again), before["updates"]
    again.training_step()
    assert learner.num_updates >= updates + 3  # 48 steps, 12 rows each: the first step learns already
    assert again.env_runner._epsilon(True) == pytest.approx(
        1.0 - again.env_runner.num_env_steps_sampled_lifetime / 1e4
    )
    assert again.env_runner.num_env_steps_sampled_lifetime > before["runner_steps"] > 0
    lr = learner.get_optimizer("student").param_groups[0]["lr"]
    assert lr == pytest.approx(0.01 * (1 - again._env_steps_lifetime() / 10_000))
    assert lr < before["lr"]


def test_that_an_older_checkpoint_can_be_restored_in_place(restored):
    algo, folder, _, before = restored
    algo.train()
    algo.train()
    algo.restore_from_path(folder)
    assert_equal(before, snapshot(algo))


def test_that_a_checkpoint_that_cannot_be_written_is_an_error(trained, monkeypatch, tmp_path):
    algo, _ = trained

    def no_space(folder):
        raise OSError("no space left")

    monkeypatch.setattr(learner_of(algo), "save_memory", no_space)
    with pytest.raises(OSError, match="no space left"):
        algo.save_to_path(tmp_path)
