"""Whole PolicyDistillations: train, evaluate, save, restore."""

import pytest
import torch

from rllib_distill import PolicyDistillation, PolicyDistillationConfig
from rllib_distill.experts import Expert
from tests.algorithms.tabular_envs import LINEAR, Corridor, Walk, quick, train_until
from tests.env_runner.counting_env import save_random_experts
from tests.learners import learner_of

pytestmark = pytest.mark.usefixtures("ray_session")


def imitation_coeffs(algo):
    return algo.learner_inputs()["imitation_coeffs"]


def best_returns(algo):
    return learner_of(algo).get_state()["best_returns"]


def test_that_learning_experts_play_learn_and_come_back_from_a_checkpoint(online, tmp_path):
    algo = online(epsilon=0.3).reporting(metrics_num_episodes_for_smoothing=20).build_algo()
    results = [algo.train() for _ in range(5)][-1]
    while not best_returns(algo):
        algo.train()
    assert set(results["learners"]) >= {"student", "short", "long"}
    assert set(results["env_runners"]["module_episode_returns_mean"]) == {"short", "long"}
    evaluated = algo.evaluate()["env_runners"]
    assert set(evaluated["module_episode_returns_mean"]) == {"student", "short", "long"}
    assert set(evaluated["student_expert_ratio"]) == {"short", "long"}
    algo.save_to_path(tmp_path)
    expert = Expert.load(tmp_path / "experts" / "long.safetensors")
    assert expert.info.made_by["algorithm"] == "PolicyDistillation"
    observations = torch.rand(7, 5)
    learned = learner_of(algo).module["long"].network
    torch.testing.assert_close(expert.network.of_rows(observations), learned.of_rows(observations))
    again = PolicyDistillation.from_checkpoint(tmp_path)
    assert best_returns(again) == best_returns(algo) != {}
    again.train()
    algo.stop()
    again.stop()


def test_that_qdaggers_coefficient_compares_returns_and_is_1_while_the_student_has_not_played(distillation):
    config = distillation(rl_coeff=1.0, imitation_coeff="qdagger").experts(behaviour="student")
    algo = config.build_algo()
    key = ("env_runners", "student_episode_returns_mean", "short")
    assert imitation_coeffs(algo) == {"short": 1.0, "long": 1.0}
    for played, wanted in ((125.0, 0.75), (600.0, 0.0), (-1.0, 1.0), (250.0, 0.5)):
        algo.metrics.log_value(key, played, window=1)
        assert imitation_coeffs(algo) == pytest.approx({"short": wanted, "long": 1.0})
        algo.metrics.reduce()  # as at an iteration's end: RLlib has nan there until the next report
        assert imitation_coeffs(algo) == pytest.approx({"short": wanted, "long": 1.0})
    algo.stop()


def test_that_an_imitator_goes_on_with_rl_from_a_target_network_of_its_own(distillation, tmp_path):
    algo = distillation().build_algo()
    algo.save_to_path(tmp_path)
    learner = distillation(rl_coeff=1.0).build_algo()
    learner.restore_from_path(tmp_path)
    student = learner_of(learner).module["student"]
    for online, target in zip(student.network.parameters(), student.target_network.parameters(), strict=True):
        assert torch.equal(online, target)
    algo.stop()
    learner.stop()


def test_that_an_evaluation_in_timesteps_wants_environments_of_its_own(distillation, refused):
    algo = distillation().evaluation(evaluation_duration_unit="timesteps").build_algo()
    with refused("timesteps", "evaluation_interval"):
        algo.evaluate()
    algo.stop()


def test_that_an_epoch_is_played_by_student_and_learning_experts(online):
    settings = {"evaluation_duration": 300, "evaluation_duration_unit": "timesteps"}
    algo = online().evaluation(evaluation_interval=1, **settings).build_algo()
    evaluated = algo.train()["evaluation"]["env_runners"]
    assert set(evaluated["module_episode_returns_mean"]) == {"student", "short", "long"}
    algo.stop()


def test_that_imitation_fades_by_its_schedule(distillation):
    algo = distillation(rl_coeff=1.0, imitation_coeff=[[0, 2.0], [10_000, 0.0]]).build_algo()
    assert imitation_coeffs(algo) == {"short": 2.0, "long": 2.0}
    steps = algo.train()["num_env_steps_sampled_lifetime"]
    assert imitation_coeffs(algo)["short"] == pytest.approx(2.0 - 2.0 * steps / 10_000)
    algo.stop()


def test_that_a_student_surpasses_a_useless_expert_by_rl(tmp_path):
    tasks = {"corridor": {"env": Corridor, "max_episode_steps": 20}}
    config = quick(PolicyDistillationConfig()).multi_task(tasks=tasks, num_envs_per_task=8)
    config.experts(save_random_experts(tmp_path, tasks), behaviour="student").training(
        network=LINEAR,
        rl_coeff=1.0,
        imitation_coeff=[[0, 1.0], [2_000, 0.0]],
        tau=0.5,
        epsilon=0.3,
        lr=0.02,
        gamma=0.9,
        huber_delta=None,
        target_network_update_freq=20,
        num_steps_sampled_before_learning_starts=100,
    )
    algo = config.build_algo()
    student = train_until(algo, 1500)["student"]
    states = torch.eye(6)[:5]
    assert (student.network.of_rows(states, ["corridor"])[0].argmax(-1) == 1).all()  # go right
    algo.stop()


def test_that_the_on_policy_objective_finds_the_experts_best_actions(tmp_path):
    tasks = {"walk": {"env": Walk, "max_episode_steps": 10}}
    paths = save_random_experts(tmp_path, tasks, network=LINEAR)
    config = quick(PolicyDistillationConfig()).multi_task(tasks=tasks, num_envs_per_task=16)
    config.experts(paths, behaviour="student").training(
        objective="expected_entropy_regularised",
        network=LINEAR,
        tau=0.3,
        epsilon=0.0,
        gamma=0.0,  # each state on its own: then the optimum is the expert's best action
        lr=0.05,
    )
    algo = config.build_algo()
    student = train_until(algo, 300)["student"]
    states = torch.eye(6)
    expert = Expert.load(paths["walk"]).network.of_rows(states)[0]
    policy = student.network.of_rows(states, ["walk"])[0].softmax(-1)
    assert (policy.gather(1, expert.argmax(-1, keepdim=True)) > 0.8).all()
    algo.stop()


def test_that_a_kickstarted_student_surpasses_a_useless_expert(tmp_path):
    tasks = {"corridor": {"env": Corridor, "max_episode_steps": 20}}
    config = quick(PolicyDistillationConfig()).multi_task(tasks=tasks, num_envs_per_task=16)
    config.experts(save_random_experts(tmp_path, tasks), behaviour="student").training(
        objective="kickstarting",
        network=LINEAR,
        rl_coeff=1.0,
        imitation_coeff=[["0%", 1.0], ["30%", 0.0]],
        entropy_coeff=0.01,
        tau=0.5,
        epsilon=0.0,
        lr=0.03,
        gamma=0.9,
        stop={"learners/__all_modules__/num_updates_lifetime": 400},
    )
    algo = config.build_algo()
    student = train_until(algo, 400)["student"]
    policy = student.network.of_rows(torch.eye(6)[1:5], ["corridor"])[0].softmax(-1)
    assert (policy[:, 1] > 0.7).all(), policy  # go right
    algo.stop()


def test_that_a_checkpoint_with_other_heads_is_refused(actor_mimic, distillation, refused, tmp_path):
    shared = actor_mimic(beta=0.0).build_algo()
    shared.save_to_path(tmp_path)
    per_task = distillation().build_algo()
    with refused("one shared head", "one head per task (short, long)"):
        per_task.restore_from_path(tmp_path)
    wider = actor_mimic(beta=0.0, network={"type": "mlp", "hiddens": [9]}).build_algo()
    with refused("(4, 8)", "(4, 9)"):
        wider.restore_from_path(tmp_path)
    online = distillation().experts("online").build_algo()
    with refused("no module 'short', 'long'"):
        online.restore_from_path(tmp_path)
    for algo in (shared, per_task, wider, online):
        algo.stop()
