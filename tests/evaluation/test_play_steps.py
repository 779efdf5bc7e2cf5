"""Epochs of so many steps: what ends within them counts."""

import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from rllib_distill.env_runner.play import play_steps
from rllib_distill.env_runner.task_envs import TaskEnvs
from tests.env_runner.counting_env import CountingEnv, return_of

MODES = pytest.mark.parametrize("mode", [AutoresetMode.SAME_STEP, AutoresetMode.NEXT_STEP])


def make(mode, lengths, ends="both"):
    """One environment per length; the reward of step k of episode e is k + 100 e."""
    makers = [lambda length=length: CountingEnv(length=length, ends=ends) for length in lengths]
    envs = TaskEnvs(SyncVectorEnv(makers, copy=False, autoreset_mode=mode))
    envs.reset(seed=0)
    return envs


def play(tasks, num_steps):
    asked = []

    def act(envs):
        asked.append(tuple(envs))
        return {task: np.zeros(task_envs.num_envs, np.int64) for task, task_envs in envs.items()}

    return play_steps(tasks, act, num_steps), asked


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
