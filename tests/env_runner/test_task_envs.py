"""Stepping vector envs in both autoreset modes."""

import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from rllib_distill.env_runner.task_envs import TaskEnvs
from rllib_distill.replay.fragment import Fragment
from tests.env_runner.counting_env import CountingEnv, LivesEnv, check_fragment, return_of

MODES = pytest.mark.parametrize("mode", [AutoresetMode.SAME_STEP, AutoresetMode.NEXT_STEP])


def make(mode, num_envs=4, seed=0, lengths=None, **options):
    """`copy=False` as in `TaskSpec`: the vector env writes its observations again and again."""
    lengths = lengths or [None] * num_envs
    makers = [lambda length=length: CountingEnv(length=length, **options) for length in lengths]
    envs = TaskEnvs(SyncVectorEnv(makers, copy=False, autoreset_mode=mode))
    envs.reset(seed=seed)
    return envs


def record(envs, steps):
    fragment = Fragment.empty("task", 0, envs.clock, steps, envs.observations)
    episodes = []
    for t in range(steps):
        episodes += envs.step(np.zeros(envs.num_envs, np.int64), fragment, t)
    return fragment, episodes


@MODES
@pytest.mark.parametrize("ends", ["terminated", "truncated", "both"])
def test_that_no_transition_crosses_an_episodes_border(mode, ends):
    envs = make(mode, ends=ends)
    for _ in range(5):  # short fragments: borders fall on their ends, too
        fragment, _ = record(envs, 13)
        check_fragment(fragment, next_step=mode == AutoresetMode.NEXT_STEP)
        assert fragment.terminations.any() == (ends != "truncated")
        assert fragment.truncations.any() == (ends != "terminated")
        assert fragment.env_steps() == fragment.agent_steps() == fragment.valid.sum()


@MODES
def test_that_episodes_are_counted_whole_and_without_the_autoreset_row(mode):
    envs = make(mode, lengths=[1, 2, 3, 5], num_envs=4)
    _, episodes = record(envs, 40)
    for b, length in enumerate([1, 2, 3, 5]):
        mine = [episode for episode in episodes if episode.env == b]
        assert len(mine) >= 6
        assert [episode.length for episode in mine] == [length] * len(mine)
        assert [e.episode_return for e in mine] == [return_of(i + 1, length) for i in range(len(mine))]


@MODES
def test_that_a_reset_forgets_what_was_begun_and_shows_as_a_gap(mode):
    envs = make(mode, lengths=[3, 3])
    first, episodes = record(envs, 3 if mode == AutoresetMode.NEXT_STEP else 4)  # NEXT_STEP: just ended
    assert len(episodes) == 2
    envs.reset()
    assert envs.is_first.all() and envs.is_reset.all()
    second, episodes = record(envs, 3)
    assert second.valid.all()
    assert second.start > first.start + len(first)
    assert [episode.length for episode in episodes] == [3, 3]


def test_that_a_lost_life_begins_an_episode_for_learners_and_no_new_game():
    envs = TaskEnvs(LivesEnv())
    envs.reset(seed=0)
    lost_in_mid_game, games = 0, 0
    for _ in range(5):
        fragment = envs.new_fragment("task", 0, 11)
        assert (fragment.is_first[0] == envs.is_first).all()
        for t in range(11):
            games += len(envs.step(np.zeros(3, np.int64), fragment, t))
            new_game = envs.observations[:, 2] == 0
            assert (envs.is_reset == new_game).all()
            assert (envs.is_first == (new_game | fragment.terminations[t])).all()
            assert (fragment.is_first[t + 1] == envs.is_first).all()
            lost_in_mid_game += int((envs.is_first & ~envs.is_reset).sum())
        assert fragment.valid.all()
    assert lost_in_mid_game > 10 and games > 10


@MODES
def test_that_is_first_of_a_fragment_goes_on_in_the_next(mode):
    envs, before, seen = make(mode, num_envs=6), None, set()
    for _ in range(20):
        fragment = envs.new_fragment("task", 0, 3)
        for t in range(3):
            envs.step(np.zeros(6, np.int64), fragment, t)
            np.testing.assert_array_equal(envs.is_reset, envs.is_first)  # no lives are lost here
        np.testing.assert_array_equal(fragment.is_first, fragment.observations[..., 2] == 0)
        if before is not None:
            np.testing.assert_array_equal(fragment.is_first[0], before.is_first[-1])
        before = fragment
        seen.add(tuple(fragment.is_first[0].tolist()))
    assert len(seen) > 4
