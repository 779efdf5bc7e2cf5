"""MinAtarVectorEnv against gymnasium's own MinAtar env, an independent oracle."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from rllib_distill.errors import DistillError
from rllib_distill.tasks import MinAtarVectorEnv, TaskSpec
from rllib_distill.tasks.vector_envs import register_minatar

GAMES = ["Asterix", "Breakout", "Freeway", "Seaquest", "SpaceInvaders"]


def play(env, steps, seed):
    """Copies of all that `env` returns for random actions that depend on `seed` only."""
    rng = np.random.default_rng(seed)
    observations, _ = env.reset(seed=seed)
    played = [(observations.copy(),)]
    for _ in range(steps):
        actions = rng.integers(env.single_action_space.n, size=env.num_envs)
        *arrays, infos = env.step(actions)
        played.append((*(array.copy() for array in arrays), infos))
    return played


def assert_same(ours, theirs):
    np.testing.assert_array_equal(ours[0][0], theirs[0][0])
    for (*arrays, infos), (*oracle_arrays, oracle_infos) in zip(ours[1:], theirs[1:], strict=True):
        for array, oracle in zip(arrays, oracle_arrays, strict=True):
            np.testing.assert_array_equal(array, oracle)
        ended = arrays[2] | arrays[3]
        assert ("final_obs" in infos) == ("final_obs" in oracle_infos) == ended.any()
        if ended.any():
            np.testing.assert_array_equal(infos["_final_obs"], ended)
            np.testing.assert_array_equal(oracle_infos["_final_obs"], ended)
            for i in range(len(ended)):
                np.testing.assert_array_equal(infos["final_obs"][i], oracle_infos["final_obs"][i])


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

    played = play(env, 200, seed=3)
    assert_same(played, play(oracle, 200, seed=3))
    # The comparison means something only if episodes ended (Freeway's take 2500 steps).
    assert any((step[2] | step[3]).any() for step in played[1:]) == (
        game != "Freeway" or bool(max_episode_steps)
    )
    assert any(step[3].any() for step in played[1:]) == (max_episode_steps is not None)


@pytest.mark.parametrize("game", ["seaquest", "space_invaders", "freeway"])
def test_a_seed_replays_the_same_games_whatever_was_played_before(game):
    env = MinAtarVectorEnv(game, 2)
    first = play(env, 150, seed=5)
    play(env, 37, seed=6)
    assert_same(first, play(env, 150, seed=5))
    other = play(env, 150, seed=6)
    assert any((a[0] != b[0]).any() for a, b in zip(first, other, strict=True))


def test_a_sticky_action_is_never_one_from_before_the_seed():
    left, right = np.full(16, 1), np.full(16, 3)
    fresh, used = (MinAtarVectorEnv("breakout", 16, sticky_action_prob=0.5) for _ in range(2))
    used.reset(seed=1)
    for _ in range(5):
        used.step(right)
    fresh.reset(seed=0)
    used.reset(seed=0)
    np.testing.assert_array_equal(used.step(left)[0], fresh.step(left)[0])


def test_game_i_is_seeded_with_seed_plus_i():
    env = MinAtarVectorEnv("freeway", 3)
    by_int = env.reset(seed=7)[0].copy()
    by_list = env.reset(seed=[7, 8, 9])[0].copy()
    np.testing.assert_array_equal(by_int, by_list)
    np.testing.assert_array_equal(by_int[1], MinAtarVectorEnv("freeway", 1).reset(seed=8)[0][0])
    with pytest.raises(DistillError, match=r"got 2 seeds for 3 games"):
        env.reset(seed=[7, 8])


def test_truncation_is_kept_apart_from_termination_and_gives_the_final_observation():
    env = MinAtarVectorEnv("freeway", 2, max_episode_steps=3)
    env.reset(seed=0)
    for _ in range(2):
        assert not env.step(np.zeros(2, np.int64))[3].any()
    observations, _, terminations, truncations, infos = env.step(np.zeros(2, np.int64))
    assert truncations.all() and not terminations.any()
    assert all((infos["final_obs"][i] != observations[i]).any() for i in range(2))
    assert not env.step(np.zeros(2, np.int64))[3].any()


def test_env_config_reaches_the_games():
    config = {"env": "MinAtar/Breakout-v1", "env_config": {"sticky_action_prob": 0.0}}
    env = TaskSpec.from_config("breakout", config).make_vector_env(1)
    paddle = env.reset(seed=0)[0][0, 9, :, 0].argmax()
    for step in range(3):  # without sticky actions every "right" moves the paddle
        assert env.step(np.array([2]))[0][0, 9, :, 0].argmax() == paddle + step + 1
