"""Configs from methods, from dicts, and what they tell env runners and learners."""

import pickle

import pytest
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig

from rllib_distill import ActorMimic, ActorMimicConfig, MultiTaskDQNConfig
from rllib_distill.core.learner import num_sources, rank_of
from tests.env_runner.counting_env import NAMED_TASKS


def test_that_a_config_from_a_dict_equals_one_from_methods(paths):
    values = {
        "tasks": NAMED_TASKS,
        "num_envs_per_task": 4,
        "experts": paths,
        "behaviour": "expert",
        "tau": 0.1,
        "beta": 0.5,
        "lr": 0.002,
        "epsilon": [[0, 1.0], [100, 0.1]],
        "evaluation_epsilon": 0.05,
        "evaluation_duration": 7,
        "optimizer": {"type": "rmsprop", "alpha": 0.9},
        "network": {"type": "linear"},
        "train_batch_size_per_learner": 64,
        "training_intensity": 3.0,
        "num_env_runners": 2,
        "seed": 5,
    }
    from_methods = (
        ActorMimicConfig()
        .multi_task(tasks=NAMED_TASKS, num_envs_per_task=4)
        .experts(paths, behaviour="expert")
        .training(
            tau=0.1,
            beta=0.5,
            lr=0.002,
            epsilon=[[0, 1.0], [100, 0.1]],
            optimizer={"type": "rmsprop", "alpha": 0.9},
            network={"type": "linear"},
            train_batch_size_per_learner=64,
            training_intensity=3.0,
        )
        .evaluation(evaluation_epsilon=0.05, evaluation_duration=7)
        .env_runners(num_env_runners=2)
        .debugging(seed=5)
    )
    from_dict = ActorMimicConfig().update_from_dict(values)
    assert vars(from_dict) == vars(from_methods)
    from_dict.validate()
    from_methods.validate()
    assert vars(from_dict) == vars(from_methods)
    assert from_dict.train_batch_size_per_learner == 64
    assert from_dict.lr == 0.002


def test_that_what_a_config_says_as_a_dict_it_takes_back(actor_mimic):
    config = actor_mimic()
    config.validate()
    again = ActorMimicConfig().update_from_dict(config.to_dict())
    again.validate()
    assert again.train_batch_size_per_learner == config.train_batch_size_per_learner
    assert again.policy_mapping_fn("long", None) == "student"
    assert again.tasks == config.tasks


def test_that_tasks_fill_the_policy_mapping():
    student = ActorMimicConfig().multi_task(tasks=NAMED_TASKS)
    assert list(student.policies) == ["student"]
    assert student.tasks_of_module("student") == ("short", "long")
    each = MultiTaskDQNConfig().multi_task(tasks=NAMED_TASKS)
    assert list(each.policies) == ["short", "long"]
    assert [each.policy_mapping_fn(task, None) for task in NAMED_TASKS] == ["short", "long"]
    assert each.is_multi_agent


def test_that_new_tasks_replace_earlier_ones_and_leave_the_users_dict_alone():
    mine = {"short": NAMED_TASKS["short"]}
    config = MultiTaskDQNConfig().multi_task(tasks=mine)
    config.multi_task(tasks={"long": NAMED_TASKS["long"]})
    assert list(mine) == ["short"]
    assert list(config.tasks) == list(config.policies) == list(config.env_config["tasks"]) == ["long"]


@pytest.mark.parametrize("config_class", [ActorMimicConfig, MultiTaskDQNConfig])
def test_that_the_default_minibatch_fits_any_number_of_tasks(config_class, paths):
    for tasks in ({"short": NAMED_TASKS["short"]}, NAMED_TASKS):
        config = config_class().multi_task(tasks=tasks)
        if config_class is ActorMimicConfig:
            config.experts({task: paths[task] for task in tasks})
        config.validate()
        assert config.train_batch_size_per_learner == config.rows_per_task * len(tasks)


def test_that_validating_twice_changes_nothing(actor_mimic):
    config = actor_mimic()
    config.validate()
    before = dict(vars(config))
    config.validate()
    assert vars(config) == before


def test_that_paths_of_experts_survive_another_working_directory(actor_mimic, paths, monkeypatch):
    monkeypatch.chdir(paths["short"].parent)
    config = actor_mimic().experts({task: path.name for task, path in paths.items()})
    config.validate()
    monkeypatch.chdir("/")
    assert list(config.load_experts()) == ["short", "long"]


@pytest.mark.parametrize("num_learners", [1, 2, 3, 4])
@pytest.mark.parametrize("num_env_runners", [0, 1, 2, 3, 5])
def test_that_every_learner_knows_how_many_runners_feed_it(num_learners, num_env_runners):
    sources = {rank: set() for rank in range(num_learners)}
    turn = 0
    for _ in range(num_learners):  # so that all have been in turn, the runners in changing order
        for runner in range(1, num_env_runners + 1) if num_env_runners else [0]:
            for _ in range(num_learners + 1):
                turn += 1
                sources[rank_of(runner, turn, num_learners, num_env_runners)].add(runner)
    for rank, runners in sources.items():
        assert num_sources(rank, num_learners, num_env_runners) == len(runners) >= 1


def test_that_a_config_can_be_pickled_and_is_rllibs(actor_mimic):
    config = actor_mimic()
    assert isinstance(config, AlgorithmConfig)
    assert config.algo_class is ActorMimic
    assert pickle.loads(pickle.dumps(config.policy_mapping_fn)) == config.policy_mapping_fn
