"""Sets of tasks, and the spaces that they share."""

import pickle

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete, MultiDiscrete

from rllib_distill.errors import DistillError
from rllib_distill.tasks import TaskSet

GAMES = {
    "asterix": "Asterix",
    "breakout": "Breakout",
    "freeway": "Freeway",
    "seaquest": "Seaquest",
    "space_invaders": "SpaceInvaders",
}


class Spaces(gym.Env):
    """An environment that is nothing but its spaces."""

    def __init__(self, observation_space, action_space=None, meanings=None):
        self.observation_space = observation_space
        self.action_space = action_space or Discrete(2)
        if meanings:
            self.get_action_meanings = lambda: meanings


def task_set(**spaces):
    return TaskSet.from_config({name: lambda args=args: Spaces(*args) for name, args in spaces.items()})


def box(*shape, dtype=np.uint8):
    return Box(0, 1, shape, dtype)


def test_minimal_action_sets_share_one_set_with_a_legal_mask():
    tasks = TaskSet.from_config({name: f"MinAtar/{game}-v1" for name, game in GAMES.items()})
    assert list(tasks) == list(GAMES)
    assert [task.num_actions for task in tasks.values()] == [5, 3, 3, 6, 4]
    shared = tasks.shared()
    assert shared.observation_space == Box(0, 1, (10, 10, 10), np.bool_)
    assert shared.action_meanings == ("n", "l", "u", "r", "d", "f")
    assert shared.num_actions == 6
    legal = {
        "asterix": "nlurd",
        "breakout": "nlr",
        "freeway": "nud",
        "seaquest": "nlurdf",
        "space_invaders": "nlrf",
    }
    for name, meanings in legal.items():
        assert [shared.action_meanings[a] for a in shared.common_actions[name]] == list(meanings)
        assert shared.legal_actions[name].tolist() == [meaning in meanings for meaning in "nlurdf"]
        assert shared.legal_actions[name].dtype == np.bool_ and shared.common_actions[name].dtype == np.int64


def test_the_full_action_set_is_legal_everywhere():
    shared = TaskSet.from_config(
        {"breakout": "MinAtar/Breakout-v0", "freeway": "MinAtar/Freeway-v0"}
    ).shared()
    assert shared.num_actions == 6
    assert all(mask.all() for mask in shared.legal_actions.values())


@pytest.fixture
def named():
    """The common set is right, left, noop, jump; `small` has jump and left of it, `large` the first three."""
    tasks = {"small": ["jump", "left"], "large": ["right", "left", "noop"]}
    return task_set(**{name: (box(4), Discrete(len(m)), m) for name, m in tasks.items()}).shared()


def test_the_common_set_is_in_the_order_of_the_task_with_most_actions(named):
    assert named.action_meanings == ("right", "left", "noop", "jump")
    assert named.common_actions["small"].tolist() == [3, 1]
    assert named.legal_actions["small"].tolist() == [False, True, False, True]


def test_actions_go_to_the_common_set_and_back(named):
    own = np.array([[0, 1, 1], [1, 0, 0]])
    assert named.to_common("small", own).tolist() == [[3, 1, 1], [1, 3, 3]]
    for task, num_actions in {"small": 2, "large": 3}.items():
        own = np.arange(num_actions)
        np.testing.assert_array_equal(named.to_own(task, named.to_common(task, own)), own)


def test_values_of_own_actions_are_scattered_over_the_common_ones(named):
    values = np.array([[1.0, 2.0], [3.0, 4.0]], np.float32)
    scattered = named.scatter("small", values)
    assert scattered.tolist() == [[0, 2, 0, 1], [0, 4, 0, 3]] and scattered.dtype == np.float32
    out = np.full((2, 4), -np.inf, np.float32)
    assert named.scatter("small", values, out=out) is out
    assert out.tolist() == [[-np.inf, 2, -np.inf, 1], [-np.inf, 4, -np.inf, 3]]


def test_legal_actions_of_some_tasks_are_told_unless_all_are_legal(named):
    small, large = [False, True, False, True], [True, True, True, False]
    assert named.legal_of(["large", "small", "large"]).tolist() == [large, small, large]
    by_number = task_set(pole=(box(4), Discrete(2)), acrobot=(box(6), Discrete(3))).shared()
    assert by_number.legal_of(["acrobot"]) is None
    assert by_number.legal_of(["acrobot", "pole"]).tolist() == [[True] * 3, [True, True, False]]


def test_actions_without_names_share_by_number():
    shared = TaskSet.from_config({"pole": "CartPole-v1", "acrobot": "Acrobot-v1"}).shared()
    assert shared.action_meanings is None
    assert shared.num_actions == 3
    assert shared.common_actions["pole"].tolist() == [0, 1]
    assert shared.legal_actions["pole"].tolist() == [True, True, False]
    assert shared.observation_space.shape == (6,)


@pytest.mark.parametrize(("own_actions", "other"), [(True, ["a", "c", "d"]), (False, None)])
def test_names_do_not_count_where_a_task_has_none_or_each_task_has_its_own_actions(own_actions, other):
    tasks = task_set(named=(box(4), Discrete(2), ["b", "a"]), other=(box(4), Discrete(3), other))
    shared = tasks.shared(own_actions=own_actions)
    assert shared.action_meanings is None and shared.num_actions == 3
    assert shared.common_actions["named"].tolist() == [0, 1]


@pytest.mark.parametrize("meanings", [["a", "a"], ["a", "b", "c"]])
def test_names_that_do_not_tell_the_actions_apart_are_no_names(meanings):
    assert task_set(t=(box(4), Discrete(2), meanings))["t"].action_meanings is None


def test_observations_are_padded_with_zeros_on_the_last_axis():
    shared = task_set(a=(box(2, 2, 3),), b=(box(2, 2, 5),)).shared()
    assert shared.observation_space == Box(0, 1, (2, 2, 5), np.uint8)
    observations = np.arange(24, dtype=np.uint8).reshape(2, 2, 2, 3)
    padded = shared.pad(observations)
    assert padded.shape == (2, 2, 2, 5) and padded.dtype == np.uint8
    np.testing.assert_array_equal(padded[..., :3], observations)
    assert not padded[..., 3:].any()
    full = np.ones((2, 2, 2, 5), np.uint8)
    assert shared.pad(full) is full
    out = np.zeros((4, 2, 2, 2, 5), np.uint8)
    written = shared.pad(observations, out=out[1])
    assert np.shares_memory(written, out)
    np.testing.assert_array_equal(out[1], padded)
    assert not out[[0, 2, 3]].any()


@pytest.mark.parametrize("kind", [np.asarray, torch.as_tensor])
def test_a_tasks_own_part_of_padded_observations_is_a_view_of_what_it_observes(kind):
    shared = task_set(a=(box(2, 2, 3),), b=(box(2, 2, 5),)).shared()
    padded = kind(shared.pad(np.arange(24, dtype=np.uint8).reshape(2, 2, 2, 3)))
    own = shared.own_part("a", padded)
    assert own.shape == (2, 2, 2, 3) and (own.reshape(-1) == kind(np.arange(24))).all()
    own[:] = 7
    assert (padded[..., :3] == 7).all() and shared.own_part("b", padded).shape == padded.shape


def test_observations_without_axes_are_neither_padded_nor_cut():
    shared = task_set(number=(box(),), other=(box(),)).shared()
    assert shared.observation_space.shape == ()
    numbers = np.ones(3, np.uint8)
    assert shared.pad(numbers) is numbers and shared.own_part("number", numbers) is numbers


def test_shared_bounds_hold_every_task_and_the_padding():
    wide = Box(np.array([-2, 1], np.float32), np.array([3, 4], np.float32))
    narrow = Box(np.array([-5], np.float32), np.array([1], np.float32))
    space = task_set(wide=(wide,), narrow=(narrow,)).shared().observation_space
    assert space.low.tolist() == [-5, 0] and space.high.tolist() == [3, 4]


def test_a_task_set_survives_pickling():
    tasks = TaskSet.from_config({"breakout": "MinAtar/Breakout-v1", "pole": "CartPole-v1"})
    assert pickle.loads(pickle.dumps(tasks)) == tasks


@pytest.mark.parametrize("other", [box(3, 4, 1), box(4), box(4, 4, 1, dtype=np.float32)])
def test_tasks_that_cannot_share_a_student_are_named_with_both_spaces(other):
    with pytest.raises(
        DistillError, match=r"'first' and 'other' cannot share a student.*Box.*uint8.*Box"
    ) as error:
        task_set(first=(box(4, 4, 1),), second=(box(4, 4, 2),), other=(other,)).shared()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("spaces", "message"),
    [
        (
            (box(4), Box(-1, 1, (2,))),
            r"task 't' has the action space Box\(-1\.0, 1\.0, \(2,\), float32\).*Discrete",
        ),
        ((box(4), MultiDiscrete([2, 2])), r"task 't' has the action space MultiDiscrete"),
        ((box(4), Discrete(3, start=1)), r"task 't' has the action space Discrete\(3, start=1\)"),
        ((Discrete(5),), r"task 't' has the observation space Discrete\(5\); it must be a Box"),
    ],
)
def test_spaces_that_are_not_supported_are_named_with_their_task(spaces, message):
    with pytest.raises(DistillError, match=message) as error:
        task_set(t=spaces)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({}, r"tasks is empty; give at least one"),
        (None, r"tasks is None; it must map"),
        (["CartPole-v1"], r"tasks is \['CartPole-v1'\]; it must map"),
        ({"a/b": "CartPole-v1"}, r"task name 'a/b' can't be used"),
        ({"__all__": "CartPole-v1"}, r"task name '__all__'"),
        ({3: "CartPole-v1"}, r"task name 3 can't be used"),
    ],
)
def test_bad_task_sets_are_refused(config, message):
    with pytest.raises(DistillError, match=message):
        TaskSet.from_config(config)
