"""Experts and student share the episodes of a real runner; experts are asked once per state."""

import numpy as np
import pytest
import ray

from rllib_distill.env_runner import MultiTaskEnvRunner
from rllib_distill.experts import ExpertBank
from rllib_distill.tasks import TaskSet
from tests.env_runner.conftest import greedy_by_hand
from tests.env_runner.counting_env import NAMED_TASKS as TASKS
from tests.env_runner.counting_env import check_fragment

ROWS = 10 * 3  # of a fragment: steps times environments


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
def test_that_labels_are_those_of_a_separate_labelling_whoever_acts(make_runner, paths, share, beta):
    bank = ExpertBank.load(paths, TaskSet.from_config(TASKS))
    runner = make_runner(behaviour=share, beta=beta)
    for fragment in [fragment for _ in range(3) for fragment in runner.sample()]:
        said = bank.label(fragment.task, fragment.observations[:-1])
        outputs, features = said.outputs.reshape(ROWS, -1), said.features.reshape(ROWS, -1)
        labels = {name: values.reshape(ROWS, -1) for name, values in fragment.columns.items()}
        np.testing.assert_allclose(labels["expert_outputs"], outputs, rtol=1e-5)
        assert ("expert_features" in labels) == (beta > 0)
        if beta:
            np.testing.assert_allclose(labels["expert_features"], features, rtol=1e-5, atol=1e-6)


def test_that_the_student_rests_where_experts_act_and_nothing_is_asked_twice(make_runner, watch):
    runner = make_runner(behaviour="expert")
    rows = watch(runner)
    runner.sample()
    assert rows == {"student": [], "short": [3] * 10, "long": [3] * 10}


def test_that_experts_only_label_where_the_student_acts(make_runner, watch):
    runner = make_runner(behaviour="student")
    rows = watch(runner)
    runner.sample()
    assert rows == {"student": [6] * 10, "short": [ROWS], "long": [ROWS]}


def test_that_in_a_mixture_each_state_is_labelled_once(make_runner, watch):
    runner = make_runner(behaviour=0.2)
    rows = watch(runner)
    for i in range(1, 6):
        runner.sample()
        assert sum(rows["short"]) == sum(rows["long"]) == i * ROWS
    assert {3} < set(rows["short"])  # some when the expert acted, others later


def test_that_an_episode_has_one_actor(make_runner):
    runner = make_runner(behaviour=0.5, epsilon=0.0)
    episodes = {}  # task, environment, its number -> whether (expert, student) would always have done so
    for fragment in [fragment for _ in range(8) for fragment in runner.sample()]:
        check_fragment(fragment, next_step=True)
        as_expert = fragment.actions == fragment.columns["expert_outputs"].argmax(-1)
        as_student = fragment.actions == greedy_by_hand(runner, fragment)
        for t, b in zip(*np.nonzero(fragment.valid), strict=True):
            key = fragment.task, int(b), int(fragment.observations[t, b, 1])
            agrees = np.array([as_expert[t, b], as_student[t, b]])
            episodes[key] = episodes.get(key, True) & agrees
    assert all(agrees.any() for agrees in episodes.values())
    only = [tuple(agrees.tolist()) for agrees in episodes.values()]
    assert only.count((True, False)) > 10 and only.count((False, True)) > 10


def test_that_the_share_follows_its_schedule(make_runner, watch):
    runner = make_runner(behaviour=[[0, 1.0], [100, 0.0]])
    rows = watch(runner)
    runner.sample()  # about 50 env steps
    assert rows["short"] == [3] * 10
    runner.sample(num_timesteps=300)
    runner.sample()  # experts end what they began
    for name in rows:
        rows[name].clear()
    runner.sample()
    assert rows == {"student": [6] * 10, "short": [ROWS], "long": [ROWS]}


def test_that_seeds_decide_everything_in_a_mixture_too(make_runner):
    first, same, other = (
        [make_runner(seed=seed, behaviour=0.5, epsilon=0.0).sample() for _ in range(2)][-1]
        for seed in (3, 3, 4)
    )
    for a, b in zip(first, same, strict=True):
        np.testing.assert_array_equal(a.actions, b.actions)
        np.testing.assert_array_equal(a.columns["expert_outputs"], b.columns["expert_outputs"])
    assert any((a.actions != c.actions).any() for a, c in zip(first, other, strict=True))


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


@pytest.mark.usefixtures("ray_session")
def test_that_a_remote_runner_does_without_the_student_too(make_runner):
    config = make_runner(behaviour="expert", epsilon=0.0).config.copy(copy_frozen=False)
    config.env_runners(num_env_runners=1)
    runner = ray.remote(MultiTaskEnvRunner).remote(config=config, worker_index=1)

    def sample(runner):
        rows = []
        runner.module["student"].register_forward_hook(lambda *_: rows.append(1))
        runner.module["student"].network.register_forward_hook(lambda *_: rows.append(1))
        return runner.sample(), rows

    fragments, rows = ray.get(runner.apply.remote(sample))
    assert not rows
    for fragment in fragments:
        np.testing.assert_array_equal(fragment.actions, fragment.columns["expert_outputs"].argmax(-1))
    ray.kill(runner)
