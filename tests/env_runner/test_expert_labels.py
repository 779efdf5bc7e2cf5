"""Labels that are kept while an expert acts, and rewards for acting as it would."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from rllib_distill.algorithms.policy_distillation import PolicyDistillationConfig
from rllib_distill.env_runner.labels import Labels
from rllib_distill.env_runner.multi_task_env_runner import MultiTaskEnvRunner
from rllib_distill.replay.fragment import Fragment
from tests.env_runner.conftest import NETWORK
from tests.env_runner.counting_env import NAMED_TASKS, check_fragment
from tests.env_runner.test_multi_task_env_runner import greedy_by_hand

T, B = 5, 2


def label(task, observations):
    """Three outputs and one feature that tell which row they are of."""
    return (observations[:, :1] + np.arange(3)).astype(np.float32), observations[:, :1].astype(np.float32)


def fragment_of(task="task"):
    fragment = Fragment.empty(task, 0, 0, T, np.zeros((B, 4), np.float32))
    fragment.frames[:] = 10.0 * np.arange((T + 1) * B).reshape(T + 1, B, 1)
    fragment.actions[:] = np.arange(T * B).reshape(T, B) % 3
    fragment.rewards[:] = 7.0
    return fragment


@pytest.mark.parametrize("columns", [("expert_outputs",), ("expert_outputs", "expert_features")])
@pytest.mark.parametrize("acted", [(), (0, 3), (1, 2, 4), range(T)])
def test_that_only_rows_in_which_no_expert_acted_are_asked_about_again(acted, columns):
    asked = []
    labels = Labels(lambda task, rows: (asked.append(len(rows)), label(task, rows))[1], columns)
    fragment = fragment_of()
    for labels.row in acted:
        outputs = labels.outputs("task", fragment.observations[labels.row])
        np.testing.assert_array_equal(outputs, label("task", fragment.observations[labels.row])[0])
    labels.write(fragment)
    assert asked == [B] * len(acted) + ([B * (T - len(acted))] if len(acted) < T else [])
    assert fragment.labels.keys() == set(columns)
    for t in range(T):
        expected = dict(
            zip(("expert_outputs", "expert_features"), label("", fragment.observations[t]), strict=True)
        )
        for name in columns:
            np.testing.assert_array_equal(fragment.labels[name][t], expected[name])
    assert (fragment.rewards == 7.0).all()


def test_that_what_was_kept_of_one_sample_is_not_the_next_ones():
    labels, fragment = Labels(label, ["expert_outputs"]), fragment_of()
    for unfinished in (False, True):
        labels.row = 0
        labels.outputs("task", np.full((B, 4), 1e6))
        if unfinished:
            labels.begin()
        else:
            labels.write(fragment_of())
        labels.write(fragment)
        np.testing.assert_array_equal(fragment.labels["expert_outputs"][0, :, 0], [0.0, 10.0])


def test_that_nothing_is_asked_where_nothing_is_wanted():
    fragment = fragment_of()
    Labels(None, ()).write(fragment)
    assert not fragment.labels and (fragment.rewards == 7.0).all()


@pytest.mark.parametrize("acted", [(), (0, 3)])
def test_that_rewards_are_the_experts_log_likelihoods(acted):
    """The outputs of every row are x, x + 1, x + 2."""
    labels, fragment = Labels(label, ["expert_outputs"], imitation_reward_tau=lambda task: 0.5), fragment_of()
    for labels.row in acted:
        labels.outputs("task", fragment.observations[labels.row])
    labels.write(fragment)
    partition = np.log(np.exp([0.0, 2.0, 4.0]).sum())
    np.testing.assert_allclose(fragment.rewards, 2.0 * fragment.actions - partition, rtol=1e-5)
    assert fragment.rewards.dtype == np.float32


def test_that_every_task_has_its_own_temperature_of_rewards():
    labels = Labels(label, (), imitation_reward_tau={"task": 0.5, "other": 0.25}.get)
    for task, scale in (("task", 2.0), ("other", 4.0)):
        fragment = replace(fragment_of(), task=task)
        labels.write(fragment)
        partition = np.log(np.exp(scale * np.arange(3.0)).sum())
        np.testing.assert_allclose(fragment.rewards, scale * fragment.actions - partition, rtol=1e-5)


@pytest.fixture
def runner(paths):
    """Of a student that draws its actions and is rewarded for its experts' likelihoods."""
    config = PolicyDistillationConfig().multi_task(tasks=NAMED_TASKS, num_envs_per_task=3)
    config.experts(paths, behaviour="student").training(
        objective="expected_entropy_regularised", tau=50.0, epsilon=0.0, network=NETWORK, heads="shared"
    )
    config.evaluation(evaluation_epsilon=0.0).debugging(seed=0)
    config.env_runners(rollout_fragment_length=10, num_env_runners=0)
    return MultiTaskEnvRunner(config=config, worker_index=0)


def test_that_a_runner_rewards_imitation_and_reports_the_tasks_own_returns(runner):
    for fragment in runner.sample():
        odds = np.exp(fragment.labels["expert_outputs"].astype(float) / 50.0)
        taken = np.take_along_axis(odds / odds.sum(-1, keepdims=True), fragment.actions[..., None], -1)
        np.testing.assert_allclose(fragment.rewards, np.log(taken[..., 0]), rtol=1e-4, atol=1e-5)
        assert (fragment.rewards <= 0).all()
    for mean in runner.get_metrics()["agent_episode_returns_mean"].values():
        assert mean.peek() > 100  # the first step of the first episode is worth 101


def test_that_the_student_draws_its_actions_in_training_only(runner):
    with torch.no_grad():
        for parameter in runner.module["student"].parameters():
            parameter *= 0.1  # observations are large, and a policy that is sure draws what is greedy
    long = runner.sample(num_timesteps=600)[1]
    assert (long.actions != greedy_by_hand(runner, long)).mean() > 0.05
    runner.config.in_evaluation = True
    evaluating = MultiTaskEnvRunner(config=runner.config, worker_index=0)
    for fragment in evaluating.sample():
        np.testing.assert_array_equal(fragment.actions, greedy_by_hand(evaluating, fragment))
        check_fragment(fragment, next_step=True)  # and the rewards are the task's
