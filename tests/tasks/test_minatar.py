"""MinAtarVectorEnv against gymnasium's own MinAtar env, an independent oracle."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from rllib_distill.tasks import MinAtarVectorEnv, TaskSpec
from rllib_distill.tasks.vector_envs import register_minatar
from tests.tasks.playing import assert_same, play, random_actions

GAMES = ["Asterix", "Breakout", "Freeway", "Seaquest", "SpaceInvaders"]


@pytest.mark.parametrize("version", ["v0", "v1"])
@pytest.mark.parametrize("game", GAMES)
@pytest.mark.parametrize("max_episode_steps", [None, 12])
def test_plays_as_gymnasium_does_across_episode_ends(game, version, max_episode_steps):
    register_minatar()
    env_id = f"MinAtar/{game}-{version}"
    oracle = SyncVectorEnv(
        [lambda: gym.make(gym.spec(env_id), max_episode_steps=max_episode_steps)] * 3,
        autoreset_mode=AutoresetMode.SAME_STEP,
    )
    env = TaskSpec("task", env_id, max_episode_steps=max_episode_steps).make_vector_env(3)
    assert isinstance(env, MinAtarVectorEnv)
    assert env.single_observation_space == oracle.single_observation_space
    assert env.single_action_space == oracle.single_action_space
    assert env.metadata["autoreset_mode"] == AutoresetMode.SAME_STEP

    actions = random_actions(env, 200)
    played = play(env, actions, seed=3)
    assert_same(played, play(oracle, actions, seed=3))
    # The comparison means something only if episodes ended (Freeway's take 2500 steps).
    assert any((step[2] | step[3]).any() for step in played[1:]) == (
        game != "Freeway" or bool(max_episode_steps)
    )
    assert any(step[3].any() for step in played[1:]) == (max_episode_steps is not None)


def test_a_sticky_action_is_never_one_from_before_the_seed():
    left, right = np.full(16, 1), np.full(16, 3)
    fresh, used = (MinAtarVectorEnv("breakout", 16, sticky_action_prob=0.5) for _ in range(2))
    used.reset(seed=1)
    for _ in range(5):
        used.step(right)
    fresh.reset(seed=0)
    used.reset(seed=0)
    np.testing.assert_array_equal(used.step(left)[0], fresh.step(left)[0])


def test_env_config_reaches_the_games():
    config = {"env": "MinAtar/Breakout-v1", "env_config": {"sticky_action_prob": 0.0}}
    env = TaskSpec.from_config("breakout", config).make_vector_env(1)
    paddle = env.reset(seed=0)[0][0, 9, :, 0].argmax()
    for step in range(3):  # without sticky actions every "right" moves the paddle
        assert env.step(np.array([2]))[0][0, 9, :, 0].argmax() == paddle + step + 1
