"""Tiny tasks, their experts, and configs for them: fixtures of several folders."""

import pytest

from rllib_distill import ActorMimicConfig, MultiTaskDQNConfig, PolicyDistillationConfig
from rllib_distill.env_runner.actors import NetworkActor
from rllib_distill.experts import ExpertBank
from rllib_distill.tasks import TaskSet
from tests.env_runner.counting_env import NAMED_TASKS, save_random_experts

ON_POLICY = {"expected_entropy_regularised": {}, "kickstarting": {"rl_coeff": 1.0}}
"""Objectives on trajectories, with the settings that they cannot do without."""

RETURN = {"mean": 500.0, "std": 1.0, "episodes": 1, "epsilon": 0.0}


@pytest.fixture(scope="session")
def paths(tmp_path_factory):
    """Task -> path of an expert with random weights."""
    return save_random_experts(tmp_path_factory.mktemp("experts"), NAMED_TASKS, expected_return=RETURN)


@pytest.fixture(scope="session")
def bank(paths):
    return ExpertBank.load(paths, TaskSet.from_config(NAMED_TASKS))


def tiny(config):
    """Shrinks a config as far as it goes, but for replay."""
    return (
        config.multi_task(tasks=NAMED_TASKS, num_envs_per_task=3)
        .env_runners(num_env_runners=0, rollout_fragment_length=8)
        .training(network={"type": "mlp", "hiddens": [8]})
        .evaluation(evaluation_duration=4)
        .reporting(min_time_s_per_iteration=0)
        .debugging(seed=0, log_level="ERROR")
    )


def small(config):
    """Shrinks a config, with replay."""
    return tiny(config).training(
        train_batch_size_per_learner=12,
        replay_capacity=300,
        num_steps_sampled_before_learning_starts=40,
        training_intensity=1.0,
    )


@pytest.fixture(scope="session")
def actor_mimic(paths):
    """Returns a function that makes a config; keyword arguments go to `training`."""
    return lambda **training: small(ActorMimicConfig()).experts(paths).training(**training)


@pytest.fixture(scope="session")
def dqn():
    """Returns a function that makes a config; keyword arguments go to `training`."""
    return lambda **training: small(MultiTaskDQNConfig()).training(**training)


@pytest.fixture(scope="session")
def distillation(paths):
    """Returns a function that makes a config; keyword arguments go to `training`."""
    return lambda **training: small(PolicyDistillationConfig()).experts(paths).training(**training)


@pytest.fixture(scope="session")
def on_policy(paths):
    """Returns a function that makes a config of an objective on trajectories."""

    def make(objective="expected_entropy_regularised", **training):
        config = tiny(PolicyDistillationConfig()).experts(paths, behaviour="student")
        return config.training(objective=objective, **{"epsilon": 0.0, **ON_POLICY[objective], **training})

    return make


@pytest.fixture(scope="session")
def online():
    """The same with replay, and experts that learn."""
    return lambda **training: small(PolicyDistillationConfig()).experts("online").training(**training)


@pytest.fixture
def epsilons(monkeypatch):
    """With what epsilon was acted, call by call."""
    given, act = [], NetworkActor.__call__

    def remember(self, rows, state, epsilon, rng):
        given.append(epsilon)
        return act(self, rows, state, epsilon, rng)

    monkeypatch.setattr(NetworkActor, "__call__", remember)
    return given
