"""Whole episodes, and epochs of so many steps, of which what ends within them counts."""

import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from rllib_distill.env_runner.actors import Acted, RandomActor
from rllib_distill.env_runner.play import play_episodes, play_steps
from rllib_distill.env_runner.task_envs import TaskEnvs
from tests.env_runner.counting_env import CountingEnv, return_of

MODES = pytest.mark.parametrize("mode", [AutoresetMode.SAME_STEP, AutoresetMode.NEXT_STEP])


def make(mode, lengths, ends="both"):
    """One environment per length; the reward of step k of episode e is k + 100 e."""
    makers = [lambda length=length: CountingEnv(length=length, ends=ends) for length in lengths]
    envs = TaskEnvs(SyncVectorEnv(makers, copy=False, autoreset_mode=mode))
    envs.reset(seed=0)
    return envs


class Watched(RandomActor):
    """Remembers for which tasks it was asked to act, and at what epsilon."""

    def __init__(self, tasks):
        super().__init__(dict.fromkeys(tasks, 2))
        self.asked = []

    def __call__(self, rows, state, epsilon, rng) -> Acted:
        assert set(state) == set(rows) and epsilon == 0.25
        self.asked.append(tuple(rows))
        return super().__call__(rows, state, epsilon, rng)


def play(tasks, amount, by=play_steps):
    actor = Watched(tasks)
    return by(tasks, actor, amount, 0.25, np.random.default_rng(0)), actor.asked


# -- episodes ----------------------------------------------------------------------------------------------


@MODES
@pytest.mark.parametrize("num_episodes", [1, 3, 7, 9])
def test_that_every_environment_has_its_quota_however_long_its_episodes_are(mode, num_episodes):
    lengths = [1, 4, 11]
    episodes = play({"a": make(mode, lengths)}, num_episodes, play_episodes)[0]["a"]
    assert len(episodes) == num_episodes
    for b, length in enumerate(lengths):
        mine = [e for e in episodes if e.env == b]
        assert len(mine) == num_episodes // 3 + (b < num_episodes % 3)
        assert [e.episode_return for e in mine] == [return_of(i + 1, length) for i in range(len(mine))]


def test_that_a_task_whose_episodes_are_over_is_stepped_no_more():
    tasks = {"short": make(AutoresetMode.SAME_STEP, [2]), "long": make(AutoresetMode.SAME_STEP, [5])}
    episodes, asked = play(tasks, 2, play_episodes)
    assert {task: len(e) for task, e in episodes.items()} == {"short": 2, "long": 2}
    assert asked == [("short", "long")] * 4 + [("long",)] * 6


def test_that_no_episodes_are_no_steps():
    assert play({"a": make(AutoresetMode.SAME_STEP, [3])}, 0, play_episodes) == ({"a": []}, [])


# -- epochs ------------------------------------------------------------------------------------------------


@MODES
@pytest.mark.parametrize("num_steps", [4, 5, 7, 8, 9, 40])
def test_that_an_epoch_has_the_episodes_that_fit_into_it(mode, num_steps):
    epoch = play({"a": make(mode, [4])}, num_steps)[0]["a"]
    whole = num_steps // 4
    assert [e.episode_return for e in epoch.episodes] == [return_of(i + 1, 4) for i in range(whole)]
    assert [e.length for e in epoch.episodes] == [4] * whole
    assert epoch.finished and epoch.steps == num_steps


@MODES
def test_that_an_epoch_in_which_none_ends_has_what_was_begun(mode):
    epoch = play({"a": make(mode, [9])}, 3)[0]["a"]
    assert [(e.episode_return, e.length) for e in epoch.episodes] == [(101 + 102 + 103, 3)]
    assert not epoch.finished and epoch.steps == 3


@MODES
def test_that_environments_share_the_steps(mode):
    epoch = play({"a": make(mode, [3, 5, 20])}, 29)[0]["a"]  # 10 steps each
    assert sorted((e.env, e.length) for e in epoch.episodes) == [(0, 3), (0, 3), (0, 3), (1, 5), (1, 5)]
    assert epoch.finished and epoch.steps == 30


@MODES
def test_that_what_ends_too_late_does_not_count_though_others_play_on(mode):
    """Environment 0 has rows that merely reset it; meanwhile the other's second episode ends."""
    epoch = play({"a": make(mode, [1, 6])}, 18)[0]["a"]  # 9 steps each
    assert sorted((e.env, e.length) for e in epoch.episodes) == [(0, 1)] * 9 + [(1, 6)]


@MODES
def test_that_all_are_cut_off_at_the_same_step(mode):
    epoch = play({"a": make(mode, [20, 30])}, 7)[0]["a"]
    assert [(e.env, e.length, e.episode_return) for e in epoch.episodes] == [
        (0, 4, 101 + 102 + 103 + 104),
        (1, 4, 101 + 102 + 103 + 104),
    ]
    assert epoch.steps == 8 and not epoch.finished


def test_that_a_task_that_is_done_is_stepped_no_more():
    """Rows that reset are no steps, so that the task with short episodes takes longer."""
    tasks = {"short": make(AutoresetMode.NEXT_STEP, [2]), "long": make(AutoresetMode.NEXT_STEP, [6])}
    epochs, asked = play(tasks, 6)
    assert {task: len(epoch.episodes) for task, epoch in epochs.items()} == {"short": 3, "long": 1}
    assert list(epochs) == ["short", "long"]
    assert asked == [("short", "long")] * 6 + [("short",)] * 2


def test_that_returns_for_rllib_count_every_step():
    epoch = play({"a": make(AutoresetMode.SAME_STEP, [4])}, 10)[0]["a"]
    sample = epoch.returns("a")
    assert (sample.task, sample.lengths, sample.finished) == ("a", (4, 4), True)
    assert sample.returns == (return_of(1, 4), return_of(2, 4))
    assert sample.env_steps() == sample.agent_steps() == 10
