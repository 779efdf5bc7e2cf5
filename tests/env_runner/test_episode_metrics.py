"""What a runner reports, under RLlib's keys."""

import numpy as np
import pytest

from tests.env_runner.counting_env import return_of


def by_task(samples):
    return {sample.task: sample for sample in samples}


def returns_in(fragment):
    """Of the episodes that ended in it."""
    ended = fragment.observations[:-1][fragment.terminations | fragment.truncations]
    return [return_of(int(episode), int(step) + 1) for _, episode, step in ended[:, :3]]


def test_that_metrics_have_rllibs_keys_and_are_right(make_runner):
    runner = make_runner()
    fragments = by_task(runner.sample())
    metrics = runner.metrics.peek  # of what is logged below
    runner._episodes.log()
    for task, fragment in fragments.items():
        assert metrics(("num_agent_steps_sampled", task)) == fragment.env_steps()
        assert metrics(("agent_episode_returns_mean", task)) == pytest.approx(np.mean(returns_in(fragment)))
    assert metrics("num_env_steps_sampled") == sum(f.env_steps() for f in fragments.values())
    assert metrics("num_env_steps_sampled_lifetime") == metrics("num_env_steps_sampled")
    assert metrics(("num_module_steps_sampled", "student")) == metrics("num_env_steps_sampled")
    ended = sum((f.terminations | f.truncations).sum() for f in fragments.values())
    assert metrics("num_episodes") == metrics("num_episodes_lifetime") == ended
    for name in ("episode_return_mean", "episode_return_min", "episode_return_max", "episode_len_mean"):
        assert np.isfinite(metrics(name))
    assert metrics("episode_return_min") <= metrics("episode_return_mean") <= metrics("episode_return_max")
    assert np.isfinite(metrics(("module_episode_returns_mean", "student")))


def test_that_every_single_return_of_an_evaluation_is_in_the_metrics(make_runner):
    runner = make_runner()
    runner.sample()
    runner.get_metrics()
    samples = by_task(runner.sample(num_episodes=4))
    runner._episodes.log()
    for task, sample in samples.items():
        assert list(runner.metrics.peek(("agent_episode_returns", task))) == list(sample.returns)
        mean = runner.metrics.peek(("agent_episode_returns_mean", task))
        assert mean == pytest.approx(np.mean(sample.returns))
    assert runner.metrics.peek("num_episodes") == 8


def test_that_training_means_know_nothing_of_an_evaluation_on_the_same_runner(make_runner):
    runner = make_runner()
    before = by_task(runner.sample())
    runner.get_metrics()
    runner.sample(num_episodes=3)
    runner.get_metrics()
    after = by_task(runner.sample())
    runner._episodes.log()
    for task in before:
        returns = returns_in(before[task]) + returns_in(after[task])
        assert runner.metrics.peek(("agent_episode_returns_mean", task)) == pytest.approx(np.mean(returns))
