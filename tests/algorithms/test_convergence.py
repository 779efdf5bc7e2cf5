"""What the papers claim, on tasks that are small enough to check exactly."""

import numpy as np
import pytest
import torch

from rllib_distill import ActorMimicConfig, MultiTaskDQNConfig
from rllib_distill.experts import Expert
from tests.algorithms.tabular_envs import LINEAR, Corridor, Income, Walk, quick, train_until
from tests.env_runner.counting_env import save_random_experts

pytestmark = pytest.mark.usefixtures("ray_session")


@pytest.mark.parametrize("behaviour", ["student", "expert"])
def test_that_a_linear_student_reaches_the_experts_policies(tmp_path, behaviour):
    # Parisotto et al., 2016, section 3.3: the student converges to the experts' softmax policies, whether
    # the states are the student's or an expert's.
    tau, tasks = (
        0.5,
        {
            "three": {"env": Walk, "env_config": {"num_actions": 3, "size": 12}, "max_episode_steps": 10},
            "two": {
                "env": Walk,
                "env_config": {"num_actions": 2, "first": 6, "size": 12},
                "max_episode_steps": 10,
            },
        },
    )
    paths = save_random_experts(tmp_path, tasks, network=LINEAR)
    config = (
        quick(ActorMimicConfig())
        .multi_task(tasks=tasks, num_envs_per_task=10)
        .experts(paths, behaviour=behaviour)
        .training(network=LINEAR, tau=tau, beta=0.0, lr=0.05, epsilon=0.3, training_intensity=20.0)
        .training(train_batch_size_per_learner=128, num_steps_sampled_before_learning_starts=200)
    )
    algo = config.build_algo()
    student, states = train_until(algo, 600)["student"].network, torch.eye(12)
    for task, rows, n in (("three", slice(0, 6), 3), ("two", slice(6, 12), 2)):
        expert = (Expert.load(paths[task]).network.of_rows(states[rows])[0] / tau).softmax(-1)
        policy = student.of_rows(states[rows])[0][:, :n].softmax(-1)
        assert (policy - expert).abs().max() < 0.05
        assert expert.std(0).max() > 0.01  # or there would be nothing to learn
    algo.stop()


@pytest.fixture(scope="module")
def q_values(ray_session):
    """State values that MultiTaskDQN learned on a corridor and on an endless income."""
    gamma = 0.8
    tasks = {"corridor": Corridor, "income": {"env": Income, "max_episode_steps": 3}}
    config = (
        quick(MultiTaskDQNConfig())
        .multi_task(tasks=tasks, num_envs_per_task=10)
        .training(
            network=LINEAR, lr=0.05, gamma=gamma, epsilon=1.0, training_intensity=20.0, huber_delta=None
        )
        .training(target_network_update_freq=20, train_batch_size_per_learner=128)
        .training(num_steps_sampled_before_learning_starts=200)
    )
    algo = config.build_algo()
    module = train_until(algo, 1000)
    with torch.no_grad():
        yield {task: module[task].network.of_rows(torch.eye(6))[0].numpy() for task in tasks}
    algo.stop()


def test_that_dqn_solves_a_corridor(q_values):
    right = 0.8 ** np.arange(5, -1, -1)
    left = 0.3 * 0.8 ** np.arange(6)
    best = np.maximum(right, left)
    expected = np.stack([0.8 * np.append(0, best[:-1]), 0.8 * np.append(best[1:], 0)], 1)
    expected[0, 0], expected[5, 1] = 0.3, 1.0
    np.testing.assert_allclose(q_values["corridor"], expected, atol=0.05)


def test_that_dqn_bootstraps_through_the_time_limit(q_values):
    # 1 / (1 - gamma); to take the cut for an end would give at most 1 + 0.8 + 0.64.
    np.testing.assert_allclose(q_values["income"], 5.0, atol=0.3)
