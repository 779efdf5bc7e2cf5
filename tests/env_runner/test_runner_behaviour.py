"""Experts and student share the episodes of a real runner; experts are asked once per state."""

import numpy as np
import pytest

from rllib_distill.experts import ExpertBank
from tests.env_runner.counting_env import NAMED_TASKS as TASKS

STEPS, ROWS = 8, 8 * 3  # of a fragment, in 3 environments


@pytest.fixture
def watch(monkeypatch):
    """Returns a function that returns lists, which fill with the rows of every forward.

    They are of the student, and of each task's expert.
    """
    label = ExpertBank.label

    def watch(runner):
        rows = {name: [] for name in ("student", *TASKS)}

        def call(bank, task, observations, *args):
            rows[task].append(observations.shape[0] * observations.shape[1])
            return label(bank, task, observations, *args)

        def count(network, inputs, outputs):
            rows["student"].append(inputs[0].shape[:3].numel())

        monkeypatch.setattr(ExpertBank, "label", call)
        runner.module["student"].network.register_forward_hook(count)
        return rows

    return watch


@pytest.mark.parametrize("beta", [0.0, 0.01], ids=["outputs", "outputs and features"])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 1.0])
def test_that_labels_are_those_of_a_separate_labelling_whoever_acts(make_runner, bank, share, beta):
    runner = make_runner(behaviour=share, beta=beta)
    for fragment in [fragment for _ in range(3) for fragment in runner.sample()]:
        said = bank.label(fragment.task, fragment.observations[:-1])
        outputs, features = said.outputs.reshape(ROWS, -1), said.features.reshape(ROWS, -1)
        labels = {name: values.reshape(ROWS, -1) for name, values in fragment.columns.items()}
        np.testing.assert_allclose(labels["expert_outputs"], outputs, rtol=1e-5)
        assert len(np.unique(outputs[:, 0])) > 5  # so that a shift would show
        assert labels.keys() == {"expert_outputs"} | ({"expert_features"} if beta else set())
        if beta:
            np.testing.assert_allclose(labels["expert_features"], features, rtol=1e-5, atol=1e-6)


def test_that_the_student_rests_where_experts_act_and_nothing_is_asked_twice(make_runner, watch):
    runner = make_runner(behaviour="expert", epsilon=0.0)
    rows = watch(runner)
    fragments = runner.sample()
    assert rows == {"student": [], "short": [3] * STEPS, "long": [3] * STEPS}
    for fragment in fragments:
        np.testing.assert_array_equal(fragment.actions, fragment.columns["expert_outputs"].argmax(-1))


def test_that_experts_only_label_where_the_student_acts(make_runner, watch):
    runner = make_runner(behaviour="student")
    rows = watch(runner)
    runner.sample()
    assert rows == {"student": [6] * STEPS, "short": [ROWS], "long": [ROWS]}


def test_that_in_a_mixture_each_state_is_labelled_once(make_runner, watch):
    runner = make_runner(behaviour=0.2)
    rows = watch(runner)
    for i in range(1, 6):
        runner.sample()
        assert sum(rows["short"]) == sum(rows["long"]) == i * ROWS
    assert {3} < set(rows["short"])  # some when the expert acted, others later


def test_that_the_share_follows_its_schedule(make_runner, watch):
    runner = make_runner(behaviour=[[0, 1.0], [100, 0.0]])
    rows = watch(runner)
    runner.sample()  # about 40 env steps
    assert rows["short"] == [3] * STEPS
    runner.sample(num_timesteps=300)
    runner.sample()  # experts end what they began
    for name in rows:
        rows[name].clear()
    runner.sample()
    assert rows == {"student": [6] * STEPS, "short": [ROWS], "long": [ROWS]}


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_that_the_students_own_returns_are_apart(make_runner, share):
    runner = make_runner(behaviour=share)
    for _ in range(4):
        runner.sample()
    metrics = runner.get_metrics()
    assert set(metrics["agent_episode_returns_mean"]) == set(TASKS)
    means = metrics.get("student_episode_returns_mean", {})
    assert set(means) == (set(TASKS) if share < 1 else set())
    assert set(metrics.get("module_episode_returns_mean", {})) == ({"student"} if share < 1 else set())
    for task, mean in means.items():
        everyones = metrics["agent_episode_returns_mean"][task].peek()
        assert (mean.peek() == pytest.approx(everyones)) == (share == 0)


def test_that_evaluation_is_the_students_whoever_acts_in_training(make_runner, watch):
    runner = make_runner(behaviour="expert")
    rows = watch(runner)
    runner.sample(num_episodes=2)
    assert rows["student"] and not rows["short"] and not rows["long"]
