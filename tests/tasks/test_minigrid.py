"""MiniGrid's levels as tasks: one-hot images, against MiniGrid's own observations cell by cell."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.spaces import Box
from gymnasium.vector import SyncVectorEnv

from rllib_distill.errors import DistillError
from rllib_distill.tasks import TaskSet, TaskSpec
from rllib_distill.tasks.minigrid import OneHotMiniGrid
from rllib_distill.tasks.vector_envs import find_env_spec

minigrid = pytest.importorskip("minigrid")

ALL_ACTIONS = ("left", "right", "forward", "pickup", "drop", "toggle", "done")


@pytest.mark.parametrize("env_id", ["MiniGrid-DoorKey-6x6-v0", "MiniGrid-KeyCorridorS3R1-v0"])
def test_a_cell_is_its_object_colour_and_state_one_hot(env_id):
    ours = TaskSpec.from_config("task", env_id).make_env()
    theirs = gym.make(find_env_spec(env_id))
    assert ours.observation_space == Box(0, 1, (7, 7, 20), np.bool_)
    rng = np.random.default_rng(0)
    pairs = [(ours.reset(seed=1)[0], theirs.reset(seed=1)[0])]
    for _ in range(60):
        action = rng.integers(7)
        pairs.append((ours.step(action)[0], theirs.step(action)[0]))
    for observation, expected in pairs:
        assert observation.dtype == np.bool_
        assert observation in ours.observation_space
        for x in range(7):
            for y in range(7):
                kind, colour, state = expected["image"][x, y].tolist()
                assert np.flatnonzero(observation[x, y]).tolist() == [kind, 11 + colour, 17 + state]


def test_another_view_size_makes_another_image():
    config = {"env": "MiniGrid-Empty-5x5-v0", "env_config": {"agent_view_size": 5}}
    assert TaskSpec.from_config("task", config).make_env().reset(seed=0)[0].shape == (5, 5, 20)


def test_actions_have_minigrids_names_in_levels_with_fewer_too():
    tasks = TaskSet.from_config(
        {"obstacles": "MiniGrid-Dynamic-Obstacles-5x5-v0", "door": "MiniGrid-DoorKey-5x5-v0"}
    )
    assert tasks["obstacles"].action_meanings == ALL_ACTIONS[:3]
    shared = tasks.shared()
    assert shared.action_meanings == ALL_ACTIONS
    assert shared.legal_actions["obstacles"].tolist() == [True] * 3 + [False] * 4


def test_a_maze_and_minigrid_share_what_their_actions_mean():
    tasks = TaskSet.from_config(
        {
            "level": "MiniGrid-Dynamic-Obstacles-5x5-v0",
            "maze": {"env": "rllib_distill/Maze-v0", "env_config": {"view": 7}},
        }
    )
    shared = tasks.shared()
    assert shared.action_meanings == ("left", "right", "forward")
    assert [shared.action_meanings[a] for a in shared.common_actions["maze"]] == ["forward", "left", "right"]


def test_the_users_own_wrappers_take_the_place_of_ours():
    config = {
        "env": "MiniGrid-Empty-5x5-v0",
        "wrappers": ["minigrid.wrappers.ImgObsWrapper", "gymnasium.wrappers.FlattenObservation"],
    }
    env = TaskSpec.from_config("task", config).make_env()
    assert env.observation_space.shape == (147,) and env.observation_space.dtype == np.uint8
    while isinstance(env, gym.Wrapper):
        assert not isinstance(env, OneHotMiniGrid)
        env = env.env


def test_levels_step_together_and_end_after_max_episode_steps():
    spec = TaskSpec.from_config("task", {"env": "MiniGrid-Empty-8x8-v0", "max_episode_steps": 4})
    env = spec.make_vector_env(3)
    assert isinstance(env, SyncVectorEnv)
    assert env.reset(seed=0)[0].shape == (3, 7, 7, 20)
    assert [bool(env.step(np.zeros(3, np.int64))[3].all()) for _ in range(4)] == [False] * 3 + [True]


def test_babyai_levels_are_found_and_a_mistyped_id_gets_the_nearest():
    assert TaskSpec.from_config("t", "BabyAI-GoToRedBallGrey-v0").make_env().observation_space.shape[-1] == 20
    with pytest.raises(DistillError, match=r"Did you mean 'MiniGrid-Empty-5x5-v0'\?"):
        TaskSpec.from_config("t", "MiniGrid-Emty-5x5-v0").make_env()
