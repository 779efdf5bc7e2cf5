"""Real runners whose tasks' policies have a state, with a distilled policy beside them."""

import numpy as np
import pytest

from rllib_distill.env_runner import MultiTaskEnvRunner
from rllib_distill.env_runner.task_envs import DISTILLED
from tests.algorithms.distral_tasks import distral
from tests.env_runner.counting_env import CountingEnv

LSTM = {"type": "mlp", "hiddens": [8], "lstm": 4}
TASKS = {"left": {"env": CountingEnv}, "right": {"env": CountingEnv}}


def make_runner(*, explore=True, evaluating=False):
    """Returns a runner, and a list that fills with what its modules are asked: who, and of what rows."""
    config = distral(tasks=TASKS, network=LSTM).env_runners(explore=explore)
    config.in_evaluation = evaluating
    runner, asked = MultiTaskEnvRunner(config=config), []
    forward = runner.module.forward_inference

    def remember(batch):
        asked.append((batch.get("who"), batch["tasks"], tuple(batch["obs"].shape[:3])))
        return forward(batch)

    runner.module.forward_inference = remember
    return runner, asked


def test_that_one_forward_is_for_all_tasks():
    runner, asked = make_runner()
    runner.sample()
    assert asked == [(None, ("left", "right"), (2, 1, 3))] * 10


def test_that_random_play_has_no_log_probabilities_and_no_state():
    runner, asked = make_runner()
    for fragment in runner.sample(random_actions=True):
        assert not fragment.columns and fragment.state.shape == (3, 0)
    assert not asked


@pytest.mark.parametrize("explore", [True, False])
def test_that_evaluation_draws_as_training_does_unless_it_is_told_not_to(explore):
    runner, _ = make_runner(explore=explore, evaluating=True)
    runner.config.evaluation_duration = "auto"  # so that it makes fragments
    for fragment in runner.sample(num_timesteps=60):
        assert ("behaviour_log_probs" in fragment.columns) == explore


@pytest.mark.parametrize("amount", [{"num_episodes": 4}, {"num_timesteps": 600}])
def test_that_the_distilled_policy_is_evaluated_beside_the_tasks_own(amount):
    runner, asked = make_runner(evaluating="num_timesteps" in amount)
    samples = {sample.task: sample for sample in runner.sample(**amount)}
    assert {who for who, *_ in asked} == {None, DISTILLED}
    metrics = runner.get_metrics()
    for task, sample in samples.items():
        assert list(metrics["agent_episode_returns"][task].peek()) == list(sample.returns)
        of_distilled = list(metrics["distilled_episode_returns"][task].peek())
        assert len(of_distilled) >= 4 and of_distilled != list(sample.returns)
        mean_of_distilled = metrics["distilled_episode_returns_mean"][task].peek()
        assert mean_of_distilled == pytest.approx(np.mean(of_distilled))
        mean = metrics["module_episode_returns_mean"][task].peek()
        assert mean == pytest.approx(np.mean(sample.returns))
    steps = sum(sample.env_steps() for sample in samples.values())
    assert metrics["num_env_steps_sampled"].peek() == steps


def test_that_nobody_is_evaluated_beside_random_play():
    runner, asked = make_runner()
    runner.sample(num_episodes=2, random_actions=True)
    assert not asked
    runner.sample(num_episodes=0)
    assert "distilled_episode_returns_mean" not in runner.get_metrics()
