"""Whole PolicyDistillations and shared MultiTaskDQNs: train, evaluate, save, restore."""

import numpy as np
import pytest
import torch

from rllib_distill.algorithms.actor_mimic import ActorMimic
from rllib_distill.algorithms.multi_task_dqn import MultiTaskDQNConfig
from rllib_distill.algorithms.policy_distillation import PolicyDistillation, PolicyDistillationConfig
from rllib_distill.core.experts import expert_share, highest_share, last_share
from rllib_distill.core.schedules import Elapsed
from rllib_distill.errors import DistillError
from rllib_distill.experts import Expert
from tests.algorithms.conftest import small
from tests.algorithms.tabular_envs import Corridor, Walk
from tests.algorithms.test_convergence import LINEAR, tiny, train_until
from tests.env_runner.counting_env import NAMED_TASKS, save_random_experts

pytestmark = pytest.mark.usefixtures("ray_session")


def learner_of(algo):
    return algo.learner_group._learner


def test_that_experts_act_and_the_student_is_evaluated(distillation):
    algo = distillation().build_algo()
    results = [algo.train() for _ in range(4)][-1]
    assert learner_of(algo).num_updates > 0
    assert set(results["learners"]["student"]["imitation_loss"]) <= {"short", "long"}
    assert set(algo.evaluate()["env_runners"]["student_expert_ratio"]) == {"short", "long"}
    algo.stop()


@pytest.mark.parametrize(
    ("behaviour", "shares"),
    [
        ("student", {0: 0.0, 10**9: 0.0}),
        ("expert", {0: 1.0, 10**9: 1.0}),
        (0.25, {0: 0.25, 10**9: 0.25}),
        ([[0, 1.0], [100, 0.0]], {0: 1.0, 25: 0.75, 100: 0.0, 500: 0.0}),
        ({"type": "exponential", "half_life": 10}, {0: 1.0, 10: 0.5, 30: 0.125}),
        ({"type": "exponential", "initial": 0.8, "half_life": 10}, {0: 0.8, 20: 0.2}),
    ],
)
def test_that_the_share_of_episodes_that_experts_act_follows_its_schedule(behaviour, shares, actor_mimic):
    for steps, share in shares.items():
        assert expert_share(behaviour, Elapsed(steps)) == pytest.approx(share)
    config = actor_mimic().experts(behaviour=behaviour)
    config.validate()
    assert [config.expert_share_at(steps, 0.0) for steps in shares] == pytest.approx(list(shares.values()))


@pytest.mark.parametrize(
    ("behaviour", "highest", "last"),
    [
        ("student", 0.0, 0.0),
        ("expert", 1.0, 1.0),
        (0.25, 0.25, 0.25),
        ([[0, 0.0], [5_000, 0.0], [5_001, 0.5], [5_002, 0.0]], 0.5, 0.0),
        ([[0, 0.0], [10, 1.0]], 1.0, 1.0),
        ({"type": "exponential", "initial": 0.8}, 0.8, 0.0),
    ],
)
def test_that_a_schedules_highest_and_last_share_are_known(behaviour, highest, last):
    assert (highest_share(behaviour), last_share(behaviour)) == (highest, last)


def test_that_learning_experts_play_learn_and_come_back_from_a_checkpoint(online, tmp_path):
    algo = online(epsilon=0.3).reporting(metrics_num_episodes_for_smoothing=20).build_algo()
    results = [algo.train() for _ in range(5)][-1]
    while not learner_of(algo)._best_returns:
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
    torch.testing.assert_close(
        expert.network(observations), learner_of(algo).module["long"].network(observations)
    )
    again = PolicyDistillation.from_checkpoint(tmp_path)
    for module_id in ("student", "short", "long"):
        saved, restored = (learner_of(a).module[module_id].state_dict() for a in (algo, again))
        assert saved.keys() == restored.keys()
        assert all(torch.equal(saved[name], restored[name]) for name in saved)
    assert learner_of(again)._best_returns == learner_of(algo)._best_returns != {}
    again.train()
    algo.stop()
    again.stop()


def test_that_qdaggers_coefficient_compares_returns_and_is_1_while_the_student_has_not_played(distillation):
    config = distillation(rl_coeff=1.0, imitation_coeff="qdagger").experts(behaviour="student")
    algo = config.build_algo()
    key = ("env_runners", "student_episode_returns_mean", "short")
    assert algo._imitation_coeffs() == {"short": 1.0, "long": 1.0}
    for played, wanted in ((125.0, 0.75), (600.0, 0.0), (-1.0, 1.0), (250.0, 0.5)):
        algo.metrics.log_value(key, played, window=1)
        assert algo._imitation_coeffs() == pytest.approx({"short": wanted, "long": 1.0})
        algo.metrics.reduce()  # as at an iteration's end: RLlib has nan there until the next report
        assert algo._imitation_coeffs() == pytest.approx({"short": wanted, "long": 1.0})
    algo.stop()


def test_that_a_student_with_qdaggers_coefficient_goes_on_from_its_checkpoint(distillation, tmp_path):
    config = distillation(rl_coeff=1.0, imitation_coeff="qdagger").experts(behaviour="student")
    algo = config.build_algo()
    for _ in range(4):
        algo.train()
    before = algo._imitation_coeffs()
    algo.save_to_path(tmp_path)
    again = PolicyDistillation.from_checkpoint(tmp_path)
    assert again._imitation_coeffs() == before
    again.train()
    assert all(0.0 <= value <= 1.0 for value in again._imitation_coeffs().values())
    algo.stop()
    again.stop()


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
    assert algo._imitation_coeffs() == {"short": 2.0, "long": 2.0}
    steps = algo.train()["num_env_steps_sampled_lifetime"]
    assert algo._imitation_coeffs()["short"] == pytest.approx(2.0 - 2.0 * steps / 10_000)
    algo.stop()


def test_that_a_student_surpasses_a_useless_expert_by_rl(tmp_path):
    tasks = {"corridor": {"env": Corridor, "max_episode_steps": 20}}
    config = tiny(PolicyDistillationConfig()).multi_task(tasks=tasks, num_envs_per_task=8)
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
    assert (student.network(states)[0].argmax(-1) == 1).all()  # go right
    algo.stop()


def test_that_the_on_policy_objective_finds_the_experts_best_actions(tmp_path):
    tasks = {"walk": {"env": Walk, "max_episode_steps": 10}}
    paths = save_random_experts(tmp_path, tasks, network=LINEAR)
    config = tiny(PolicyDistillationConfig()).multi_task(tasks=tasks, num_envs_per_task=16)
    config.experts(paths, behaviour="student").training(
        objective="expected_entropy_regularised",
        network=LINEAR,
        tau=0.3,
        epsilon=0.0,
        gamma=0.0,  # each state on its own: then the optimum is the expert's best action
        lr=0.05,
        train_batch_size_per_learner=320,
        training_intensity=1.0,
    )
    algo = config.build_algo()
    student = train_until(algo, 300)["student"]
    states = torch.eye(6)
    expert = Expert.load(paths["walk"]).network(states)[0]
    policy = student.network(states)[0].softmax(-1)
    assert (policy.gather(1, expert.argmax(-1, keepdim=True)) > 0.8).all()
    algo.stop()


def test_that_one_shared_dqn_learns_all_tasks_with_a_head_each(dqn, tmp_path):
    config = small(MultiTaskDQNConfig(shared=True)).training(n_step=2)
    algo = config.build_algo()
    results = [algo.train() for _ in range(4)][-1]
    assert list(learner_of(algo).module.keys()) == ["shared"]
    heads = learner_of(algo).module["shared"].network.head
    assert [heads[task].weight.shape[0] for task in ("short", "long")] == [2, 4]
    assert set(results["learners"]["shared"]["td_loss"]) == {"short", "long"}
    with pytest.raises(DistillError, match=r"no Q-network of each task's own.*shared: false"):
        algo.export_experts(tmp_path)
    algo.save_to_path(tmp_path / "checkpoint")
    assert not (tmp_path / "checkpoint" / "experts").exists()
    algo.stop()


@pytest.mark.parametrize("order", [("shared", "tasks"), ("tasks", "shared")])
def test_that_shared_may_come_before_or_after_the_tasks(order):
    values = {"shared": True, "tasks": NAMED_TASKS}
    config = MultiTaskDQNConfig().update_from_dict({key: values[key] for key in order})
    assert list(config.policies) == ["shared"]
    assert config.policy_mapping_fn("long", None) == "shared"
    config = MultiTaskDQNConfig().multi_task(tasks=NAMED_TASKS).training(shared=True)
    assert list(config.policies) == ["shared"]


@pytest.mark.parametrize("order", [("experts", "tasks"), ("tasks", "experts")])
def test_that_online_may_come_before_or_after_the_tasks(order):
    values = {"experts": "online", "tasks": NAMED_TASKS}
    config = PolicyDistillationConfig().update_from_dict({key: values[key] for key in order})
    assert list(config.policies) == ["student", "short", "long"]
    assert config.policy_mapping_fn("long", None) == "student"
    assert config.tasks_of_module("long") == ("long",)
    assert config.tasks_of_module("student") == ("short", "long")


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


def test_that_two_learners_with_a_task_each_in_their_minibatches_stay_equal(distillation):
    config = distillation().debugging(seed=None).learners(num_learners=2).env_runners(num_env_runners=2)
    algo = config.build_algo()
    while not (updates := from_learners(algo, lambda learner: learner.num_updates))[0] > 5:
        algo.train()
    assert len(set(updates)) == 1
    first, second = from_learners(
        algo, lambda learner: {k: v.numpy() for k, v in learner.module["student"].state_dict().items()}
    )
    assert all(np.array_equal(first[name], second[name]) for name in first)
    algo.stop()


def from_learners(algo, function):
    return [result.get() for result in algo.learner_group.foreach_learner(function)]


def test_that_actor_mimic_takes_a_mixture_and_heads_per_task_too(actor_mimic, tmp_path):
    config = actor_mimic(heads="per_task", one_task_per_minibatch=True, beta=0.1)
    algo = config.experts(behaviour=[[0, 1.0], [200, 0.0]]).build_algo()
    for _ in range(4):
        algo.train()
    assert learner_of(algo).num_updates > 0
    algo.save_to_path(tmp_path)
    algo.stop()
    ActorMimic.from_checkpoint(tmp_path).stop()
