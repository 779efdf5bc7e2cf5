"""Stepping vector envs in both autoreset modes, and playing whole episodes."""

import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from rllib_distill.env_runner.play import play_episodes
from rllib_distill.env_runner.task_envs import TaskEnvs
from rllib_distill.replay.fragment import Fragment
from rllib_distill.tasks import MinAtarVectorEnv
from tests.env_runner.counting_env import CountingEnv, check_fragment, return_of

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
    second, episodes = record(envs, 3)
    assert second.valid.all()
    assert second.start > first.start + len(first)
    assert [episode.length for episode in episodes] == [3, 3]


def test_that_fragments_without_a_reset_between_follow_each_other():
    envs = make(AutoresetMode.NEXT_STEP)
    first, _ = record(envs, 7)
    second, _ = record(envs, 2)
    assert second.start == first.start + 7
    np.testing.assert_array_equal(first.observations[-1], second.observations[0])


def test_that_a_truncated_minatar_game_keeps_its_final_observation():
    envs = TaskEnvs(MinAtarVectorEnv("breakout", 2, max_episode_steps=4))
    envs.reset(seed=0)
    fragment, episodes = record(envs, 9)
    assert {episode.length for episode in episodes} == {4}
    assert set(fragment.final_observations) == {(3, 0), (3, 1), (7, 0), (7, 1)}
    for (t, b), final in fragment.final_observations.items():
        # The trail of the ball is where the ball was: the final observation follows its own episode's last.
        assert (final[..., 2] == fragment.observations[t, b, ..., 1]).all()
        assert not (fragment.observations[t + 1, b, ..., 2] == fragment.observations[t, b, ..., 1]).all()


def play(tasks, num_episodes):
    asked = []

    def act(envs):
        asked.append(tuple(envs))
        return {task: np.zeros(task_envs.num_envs, np.int64) for task, task_envs in envs.items()}

    return play_episodes(tasks, act, num_episodes), asked


@MODES
@pytest.mark.parametrize("num_episodes", [1, 3, 7, 9])
def test_that_every_environment_has_its_quota_however_long_its_episodes_are(mode, num_episodes):
    lengths = [1, 4, 11]
    episodes = play({"a": make(mode, lengths=lengths)}, num_episodes)[0]["a"]
    assert len(episodes) == num_episodes
    for b, length in enumerate(lengths):
        mine = [e for e in episodes if e.env == b]
        assert len(mine) == num_episodes // 3 + (b < num_episodes % 3)
        assert [e.episode_return for e in mine] == [return_of(i + 1, length) for i in range(len(mine))]


def test_that_a_task_that_is_done_is_stepped_no_more():
    short, long = make(AutoresetMode.SAME_STEP, lengths=[2]), make(AutoresetMode.SAME_STEP, lengths=[5])
    episodes, asked = play({"short": short, "long": long}, 2)
    assert {task: len(e) for task, e in episodes.items()} == {"short": 2, "long": 2}
    assert asked == [("short", "long")] * 4 + [("long",)] * 6


def test_that_no_episodes_are_no_steps():
    assert play({"a": make(AutoresetMode.SAME_STEP)}, 0) == ({"a": []}, [])
