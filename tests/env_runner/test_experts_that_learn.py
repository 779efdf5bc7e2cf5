"""Experts that are modules: they act and are evaluated beside the student, and never instead of it."""

import numpy as np
import pytest
import torch

from tests.env_runner.conftest import greedy_by_hand, read, returns_in
from tests.env_runner.counting_env import NAMED_TASKS as TASKS


def watch(runner):
    """Returns lists that fill with the number of rows of every forward, per module."""
    rows = {}
    for module_id in runner.module.keys():
        rows[module_id] = []
        runner.module[module_id].network.register_forward_hook(
            lambda _, inputs, __, module_id=module_id: rows[module_id].append(inputs[0].shape[:3].numel())
        )
    return rows


def expert_greedy_by_hand(runner, fragment):
    """Each row's best action by the task's expert, (T, B)."""
    rows = torch.from_numpy(fragment.observations[:-1])
    with torch.no_grad():
        said = runner.module[fragment.task].network(rows[None], (fragment.task,))
    return said.outputs[0].numpy().argmax(-1)


def test_that_experts_act_their_own_tasks_and_the_student_rests(make_runner):
    runner = make_runner("online", behaviour="expert", epsilon=0.0)
    rows = watch(runner)
    fragments = runner.sample()
    assert rows == {"student": [], "short": [3] * 8, "long": [3] * 8}
    for fragment in fragments:
        np.testing.assert_array_equal(fragment.actions, expert_greedy_by_hand(runner, fragment))
        assert not fragment.columns  # the learner's matter


def test_that_the_student_acts_with_its_own_module(make_runner):
    runner = make_runner("online", behaviour="student", epsilon=0.0)
    rows = watch(runner)
    fragments = runner.sample()
    assert rows == {"student": [6] * 8, "short": [], "long": []}
    for fragment in fragments:
        np.testing.assert_array_equal(fragment.actions, greedy_by_hand(runner, fragment))


def test_that_training_means_are_those_of_who_acted(make_runner):
    runner = make_runner("online", behaviour=0.5)
    returns = {task: [] for task in TASKS}
    for _ in range(4):
        for fragment in runner.sample():
            returns[fragment.task] += returns_in(fragment)
    metrics = runner.get_metrics()
    for task in TASKS:
        by_expert = metrics["module_episode_returns_mean"][task].peek()
        by_student = metrics["student_episode_returns_mean"][task].peek()
        all_together = metrics["agent_episode_returns_mean"][task].peek()
        assert all_together == pytest.approx(np.mean(returns[task]))
        share = (all_together - by_student) / (by_expert - by_student)
        assert 0 < share < 1
        assert (share * len(returns[task])) == pytest.approx(round(share * len(returns[task])))
    assert set(metrics["module_episode_returns_mean"]) == {"student", *TASKS}


@pytest.mark.parametrize("behaviour", ["expert", "student"])
def test_that_an_evaluation_is_the_students_and_beside_it_each_experts(make_runner, behaviour):
    runner = make_runner("online", behaviour=behaviour)
    runner.sample()
    runner.get_metrics()
    rows = watch(runner)
    samples = {sample.task: sample for sample in runner.sample(num_episodes=4)}
    assert list(samples) == list(TASKS)
    assert all(rows.values())
    value = read(runner.get_metrics())
    for task, sample in samples.items():
        assert list(value("agent_episode_returns", task)) == list(sample.returns)
        assert value("agent_episode_returns_mean", task) == pytest.approx(np.mean(sample.returns))
        of_expert = list(value("module_episode_returns", task))
        assert len(of_expert) == 4 and of_expert != list(sample.returns)  # later episodes are worth more
        assert value("module_episode_returns_mean", task) == pytest.approx(np.mean(of_expert))
    students = [one for sample in samples.values() for one in sample.returns]
    assert value("module_episode_returns_mean", "student") == pytest.approx(np.mean(students))
    assert value("num_episodes") == 8
    assert value("num_env_steps_sampled") == sum(sample.env_steps() for sample in samples.values())


def test_that_random_play_is_of_no_module(make_runner):
    runner = make_runner("online", behaviour="student")
    rows = watch(runner)
    runner.sample(num_episodes=2, random_actions=True)
    assert not any(rows.values())


def test_that_no_episodes_are_no_means(make_runner):
    runner = make_runner("online", behaviour="expert")
    runner.sample(num_episodes=0)
    assert "module_episode_returns_mean" not in runner.get_metrics()


def test_that_all_modules_travel(make_runner):
    runner, other = (make_runner("online", seed=i, behaviour="expert", epsilon=0.0) for i in range(2))
    other.set_state(runner.get_state())
    for a, b in zip(runner.sample(), other.sample(), strict=True):
        for fragment in (a, b):
            np.testing.assert_array_equal(fragment.actions, expert_greedy_by_hand(runner, fragment))


def test_that_exploration_is_on_top_of_the_experts(make_runner):
    runner = make_runner("online", behaviour="expert", epsilon=1.0)
    long = runner.sample(num_timesteps=600)[1]
    assert set(long.actions.flat) == {0, 1, 2, 3}
