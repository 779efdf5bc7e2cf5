"""Mistakes in an Atari task's options are refused in one line that names the fix."""

import sys

import gymnasium as gym
import numpy as np
import pytest

from rllib_distill.errors import DistillError
from rllib_distill.tasks import TaskSpec
from rllib_distill.tasks.atari import AtariVectorEnv

pytest.importorskip("ale_py")


def spec(env="ALE/Breakout-v5", **env_config):
    return TaskSpec.from_config("task", {"env": env, "env_config": env_config})


@pytest.mark.parametrize(
    ("env", "env_config", "message"),
    [
        ("ALE/Pogn-v5", {}, r"unknown environment id 'ALE/Pogn-v5'\. Did you mean 'ALE/Pong-v5'\?"),
        ("ALE/pong", {}, r"unknown environment id 'ALE/pong'.*'ALE/Pong-v5'"),
        ("ALE/Pong-v5", {"frameskip": 2}, r"unknown Atari option 'frameskip'\. Did you mean 'frame_skip'\?"),
        ("ALE/Pong-v5", {"game": "pong"}, r"unknown Atari option 'game'.*Known: .*noop_max"),
        (
            "ALE/Pong-v5",
            {"frame_skip": 0},
            r"frame_skip is 0; it must be a whole number from 1 to 1000",
        ),
        ("ALE/Pong-v5", {"frame_skip": 2.5}, r"option frame_skip is 2\.5; it must be a whole number"),
        ("ALE/Pong-v5", {"frame_stack": True}, r"option frame_stack is True; it must be a whole number"),
        ("ALE/Pong-v5", {"noop_max": -1}, r"noop_max is -1; it must be a whole number from 0 to 10000"),
        ("ALE/Pong-v5", {"screen_size": 4}, r"screen_size is 4; it must be a whole number from 8 to 1000"),
        ("ALE/Pong-v5", {"frame_stack": 200}, r"frame_stack is 200; it must be a whole number from 1 to 64"),
        (
            "ALE/Pong-v5",
            {"max_num_frames_per_episode": 10**10},
            r"must be a whole number from 1 to 2147483647",
        ),
        ("PongNoFrameskip-v4", {}, r"'PongNoFrameskip-v4' .* write 'ALE/Pong-v5'"),
        ("SpaceInvaders-v4", {}, r"'SpaceInvaders-v4' .* write 'ALE/SpaceInvaders-v5'"),
        ("ALE/Pong-v5", {"reward_clipping": 1}, r"option reward_clipping is 1; it must be true or false"),
        ("ALE/Pong-v5", {"repeat_action_probability": 25}, r"is 25; it must be a number in \[0, 1\)"),
        ("ALE/Pong-v5", {"repeat_action_probability": "0"}, r"is '0'; it must be a number in \[0, 1\)"),
        ("ALE/Pong-v5", {"repeat_action_probability": float("nan")}, r"is nan; it must be a number"),
    ],
)
@pytest.mark.parametrize("make", [TaskSpec.make_env, lambda task: task.make_vector_env(2)])
def test_bad_input_is_refused_in_one_line(make, env, env_config, message):
    with pytest.raises(DistillError, match=message) as error:
        make(spec(env, **env_config))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("make", [TaskSpec.make_env, lambda task: task.make_vector_env(2)])
def test_without_ale_the_message_says_what_to_install(monkeypatch, make):
    monkeypatch.setitem(sys.modules, "ale_py", None)  # makes its import fail
    monkeypatch.setattr(gym.envs.registration, "registry", {})
    monkeypatch.setattr(gym, "registry", {})
    with pytest.raises(DistillError, match=r"pip install 'rllib-distill\[atari\]'"):
        make(spec())


@pytest.mark.parametrize("actions", [[0, 6], [-1, 0]])
def test_an_action_that_the_game_lacks_is_refused(actions):
    env = AtariVectorEnv("pong", 2)
    env.reset(seed=0)
    with pytest.raises(DistillError, match=r"each must be an index in \[0, 5\]"):
        env.step(np.array(actions))  # ALE itself would wait for ever
