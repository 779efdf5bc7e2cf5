import functools
import pickle
import sys

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.wrappers import FlattenObservation, TransformReward

from rllib_distill.errors import DistillError
from rllib_distill.tasks import TaskSpec
from rllib_distill.tasks.mazes import MazeVectorEnv
from rllib_distill.tasks.two_rooms import TwoRoomsVectorEnv


class Corridor(gym.Env):
    """Walk right `length` cells."""

    action_space = Discrete(2)

    def __init__(self, length=3):
        self.length = length
        self.observation_space = Box(0, length, (1,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.x = 0
        return np.array([self.x], np.float32), {}

    def step(self, action):
        self.x = max(self.x + (1 if action else -1), 0)
        return np.array([self.x], np.float32), 1.0, self.x == self.length, False, {}


def double_rewards(env):
    return TransformReward(env, lambda reward: 2 * reward)


POLE = {"env": "CartPole-v1"}


def maze(**env_config):
    return {"env": "rllib_distill/Maze-v0", "env_config": env_config}


@pytest.mark.parametrize("env", [Corridor, lambda length=3: Corridor(length)])
def test_a_class_or_a_callable_takes_env_config(env):
    made = TaskSpec.from_config("corridor", {"env": env, "env_config": {"length": 5}}).make_env()
    assert made.unwrapped.length == 5
    assert TaskSpec.from_config("corridor", env).make_env().unwrapped.length == 3


def test_an_id_takes_env_config_and_max_episode_steps():
    config = {"env": "CartPole-v1", "env_config": {"sutton_barto_reward": True}, "max_episode_steps": 7}
    env = TaskSpec.from_config("pole", config).make_env()
    assert env.unwrapped._sutton_barto_reward
    assert env.spec.max_episode_steps == 7


def test_wrappers_are_applied_in_order_by_name_or_callable():
    wrappers = ["gymnasium.wrappers.FlattenObservation", double_rewards, functools.partial(double_rewards)]
    env = TaskSpec.from_config("breakout", {"env": "MinAtar/Breakout-v1", "wrappers": wrappers}).make_env()
    assert isinstance(env, TransformReward) and isinstance(env.env, TransformReward)
    assert isinstance(env.env.env, FlattenObservation)
    assert env.observation_space.shape == (400,)


def test_any_other_task_steps_in_a_sync_vector_env():
    env = TaskSpec.from_config("corridor", {"env": Corridor, "max_episode_steps": 4}).make_vector_env(2)
    assert isinstance(env, SyncVectorEnv)
    assert env.metadata["autoreset_mode"] == AutoresetMode.NEXT_STEP
    env.reset(seed=0)
    steps = [[array.copy() for array in env.step(np.array([1, 0]))[:4]] for _ in range(4)]
    assert [step[2].tolist() for step in steps] == [[False, False]] * 2 + [[True, False], [False, False]]
    assert [step[3].tolist() for step in steps] == [[False, False]] * 3 + [[False, True]]
    assert steps[2][0].tolist() == [[3.0], [0.0]]  # the episode's last observation, then the next's first
    assert steps[3][0].tolist() == [[0.0], [0.0]]


def test_wrapped_minatar_steps_in_a_sync_vector_env():
    config = {"env": "MinAtar/Breakout-v1", "wrappers": ["gymnasium.wrappers.FlattenObservation"]}
    assert TaskSpec.from_config("breakout", config).make_vector_env(2).reset(seed=0)[0].shape == (2, 400)


def test_a_spec_survives_pickling():
    spec = TaskSpec.from_config(
        "corridor", {"env": Corridor, "env_config": {"length": 4}, "wrappers": [double_rewards]}
    )
    assert pickle.loads(pickle.dumps(spec)) == spec


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (POLE | {"wrapers": []}, r"task 't': unknown key 'wrapers'\. Did you mean 'wrappers'\?"),
        ({"env_config": {}}, r"task 't' has no environment: add the key 'env'"),
        (3, r"task 't': env is 3; it must be a gymnasium id"),
        (POLE | {"env_config": [1]}, r"env_config is \[1\]; it must be a mapping"),
        (POLE | {"wrappers": "a.b"}, r"wrappers is 'a\.b'; it must be a list"),
        (POLE | {"wrappers": ["gymnasium.wrappers.Nope"]}, r"cannot import .*Nope.*full dotted name"),
        (POLE | {"wrappers": ["nope.Nope"]}, r"cannot import wrapper 'nope\.Nope'"),
        (POLE | {"wrappers": ["Nope"]}, r"cannot import wrapper 'Nope'"),
        (POLE | {"wrappers": [3]}, r"wrapper 3 is not callable"),
        (POLE | {"max_episode_steps": 0}, r"max_episode_steps is 0; it must be an integer >= 1"),
        (POLE | {"max_episode_steps": True}, r"max_episode_steps is True"),
        (maze(max_episode_steps=9), r"task 't': env_config has max_episode_steps \(9\); .* write it beside"),
    ],
)
def test_bad_config_is_refused_in_one_line(value, message):
    with pytest.raises(DistillError, match=message) as error:
        TaskSpec.from_config("t", value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("MinAtar/Breakot-v1", r"task 't'.*unknown environment id .*Breakot-v1'.*'MinAtar/Breakout-v1'"),
        ("Minatar/Breakout-v1", r"Did you mean 'MinAtar/Breakout-v1'\?"),
        ("rllib_distill/Maize-v0", r"Did you mean 'rllib_distill/Maze-v0'\?"),
        (maze(siz=9), r"task 't' with env_config .*unknown option 'siz' \(9\).*Did you mean 'size'\?"),
        (maze(num_envs=9), r"task 't'.*unknown option 'num_envs' \(9\)"),
        (maze(size=10), r"task 't' with env_config \{'size': 10\}: size is 10; it must be odd"),
        ("no_such_module:Env-v0", r"unknown environment id 'no_such_module:Env-v0'.*Allowed"),
        ("not an id!", r"unknown environment id 'not an id!'"),
        (POLE | {"env_config": {"gravty": 1}}, r"task 't' with env_config \{'gravty': 1\}.*unexpected"),
        ({"env": Corridor, "env_config": {"long": 1}}, r"task 't'.*unexpected keyword argument 'long'"),
        (lambda: 3, r"task 't'.*made 3; it must make a gymnasium\.Env"),
    ],
)
def test_an_environment_that_cannot_be_made_is_refused_in_one_line(value, message):
    with pytest.raises(DistillError, match=message) as error:
        TaskSpec.from_config("t", value).make_env()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("env_id", "module", "extra"),
    [
        ("ALE/Pong-v5", "ale_py", "atari"),
        ("MinAtar/Breakout-v1", "minatar.gym", "minatar"),
        ("MiniGrid-Empty-5x5-v0", "minigrid", "minigrid"),
        ("BabyAI-GoToObj-v0", "minigrid", "minigrid"),
    ],
)
@pytest.mark.parametrize("make", [TaskSpec.make_env, lambda task: task.make_vector_env(2)])
def test_a_missing_package_says_what_to_install(monkeypatch, env_id, module, extra, make):
    monkeypatch.setitem(sys.modules, module, None)  # makes its import fail
    monkeypatch.setattr(gym.envs.registration, "registry", {})
    monkeypatch.setattr(gym, "registry", {})
    with pytest.raises(DistillError, match=rf"task 't': .*pip install 'rllib-distill\[{extra}\]'"):
        make(TaskSpec.from_config("t", env_id))


GRIDWORLDS = {"rllib_distill/Maze-v0": MazeVectorEnv, "rllib_distill/TwoRooms-v0": TwoRoomsVectorEnv}


@pytest.mark.parametrize(("env_id", "vector_env"), GRIDWORLDS.items())
def test_a_gridworld_has_a_vector_env_of_its_own_unless_it_is_wrapped(env_id, vector_env):
    spec = TaskSpec.from_config("task", {"env": env_id, "env_config": {"task": 3}})
    bare, single = spec.make_vector_env(4), spec.make_env()
    assert isinstance(bare, vector_env) and bare.num_envs == 4
    assert bare.single_observation_space == single.observation_space
    assert bare.single_action_space == single.action_space
    wrapped = TaskSpec.from_config("task", {"env": env_id, "wrappers": [FlattenObservation]})
    assert isinstance(wrapped.make_vector_env(2), SyncVectorEnv)


@pytest.mark.parametrize(("steps", "expected"), [(None, 100), (7, 7), (130, 130)])
@pytest.mark.parametrize("wrappers", [[], [FlattenObservation]])
@pytest.mark.parametrize("env_id", GRIDWORLDS)
def test_a_gridworlds_episodes_are_as_long_as_the_task_says(env_id, wrappers, steps, expected):
    spec = TaskSpec.from_config("task", {"env": env_id, "wrappers": wrappers, "max_episode_steps": steps})
    env = spec.make_vector_env(1)
    # Against the wall or round and round: neither reaches a goal from where seed 0 begins.
    env.reset(seed=0)
    truncations = [bool(env.step(np.array([2]))[3][0]) for _ in range(expected)]
    assert truncations == [False] * (expected - 1) + [True]


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (maze(apple=3), r"task 't'.*unknown option 'apple' \(3\).*Did you mean 'apples'\?"),
        (maze(apples=99), r"task 't'.*apples is 99; it must be an integer >= 0 and <= 52"),
    ],
)
def test_a_vector_env_of_its_own_refuses_bad_options_in_the_tasks_name(config, message):
    with pytest.raises(DistillError, match=message):
        TaskSpec.from_config("t", config).make_vector_env(2)


def test_a_gridworld_that_renders_can_be_stepped_too():
    config = {"env": "rllib_distill/Maze-v0", "env_config": {"render_mode": "rgb_array"}}
    env = TaskSpec.from_config("maze", config).make_vector_env(2)
    env.reset(seed=0)
    assert [picture.shape for picture in env.render()] == [(264, 264, 3)] * 2
