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


def read(metrics):
    """A function of keys that returns a metric's value."""

    def value(*keys):
        found = metrics
        for key in keys:
            found = found[key]
        return found.peek()

    return value


def test_that_metrics_have_rllibs_keys_and_are_right(make_runner):
    runner = make_runner()
    fragments = by_task(runner.sample())
    value = read(runner.get_metrics())
    for task, fragment in fragments.items():
        assert value("num_agent_steps_sampled", task) == fragment.env_steps()
        assert value("agent_episode_returns_mean", task) == pytest.approx(np.mean(returns_in(fragment)))
    steps = sum(f.env_steps() for f in fragments.values())
    assert value("num_env_steps_sampled") == value("num_env_steps_sampled_lifetime") == steps
    assert value("num_module_steps_sampled", "student") == steps
    ended = sum((f.terminations | f.truncations).sum() for f in fragments.values())
    assert value("num_episodes") == value("num_episodes_lifetime") == ended
    returns = [r for fragment in fragments.values() for r in returns_in(fragment)]
    assert value("episode_return_mean") == pytest.approx(np.mean(returns))
    assert value("module_episode_returns_mean", "student") == pytest.approx(np.mean(returns))
    assert (value("episode_return_min"), value("episode_return_max")) == (min(returns), max(returns))
    assert value("episode_len_min") <= value("episode_len_mean") <= value("episode_len_max")


def test_that_every_single_return_of_an_evaluation_is_in_the_metrics(make_runner):
    runner = make_runner()
    runner.sample()
    runner.get_metrics()
    samples = by_task(runner.sample(num_episodes=4))
    value = read(runner.get_metrics())
    for task, sample in samples.items():
        assert list(value("agent_episode_returns", task)) == list(sample.returns)
        assert value("agent_episode_returns_mean", task) == pytest.approx(np.mean(sample.returns))
    assert value("num_episodes") == 8


def test_that_training_means_know_nothing_of_an_evaluation_on_the_same_runner(make_runner):
    runner = make_runner()
    before = by_task(runner.sample())
    runner.get_metrics()
    runner.sample(num_episodes=3)
    runner.get_metrics()
    after = by_task(runner.sample())
    value = read(runner.get_metrics())
    for task in before:
        returns = returns_in(before[task]) + returns_in(after[task])
        assert value("agent_episode_returns_mean", task) == pytest.approx(np.mean(returns))
