"""The two rooms against a slow oracle that knows a drawing of them, and against hand-computed values."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode

from rllib_distill.errors import DistillError
from rllib_distill.tasks.two_rooms import (
    TwoRoomsEnv,
    TwoRoomsMap,
    TwoRoomsVectorEnv,
    optimal_return,
    optimal_values,
)

UP, RIGHT, DOWN, LEFT = range(4)
SMALL = {"room_height": 3, "room_width": 2, "corridor_length": 2}
# Cells by row: 0 1 2 3 / 4 to 9 (6 and 7 are the corridor) / 10 11 12 13.
DRAWING = ["..##..", "......", "..##.."]


class SlowRooms:
    """The rules as a person would write them down, on the drawing."""

    moves = {UP: (-1, 0), RIGHT: (0, 1), DOWN: (1, 0), LEFT: (0, -1)}  # noqa: RUF012

    def __init__(self, goal, max_episode_steps):
        self.goal, self.max_episode_steps = goal, max_episode_steps
        self.free = [(r, c) for r, row in enumerate(DRAWING) for c, sign in enumerate(row) if sign == "."]

    def start(self, location):
        self.location, self.steps = location, 0
        return self.features(None, 0.0)

    def step(self, action):
        self.steps += 1
        to = tuple(np.add(self.location, self.moves[action]).tolist())
        reward = -0.1
        if to in self.free:
            self.location = to
        else:
            reward -= 0.5
        if self.location == self.goal:
            reward += 1.0
        truncated = self.steps == self.max_episode_steps
        return self.features(action, reward), reward, self.location == self.goal, truncated

    def features(self, action, reward):
        location = [float(self.location == cell) for cell in self.free]
        return np.array([*location, *(float(action == a) for a in range(4)), reward], np.float32)


def cell_of(features):
    return int(features[:-5].argmax())


def test_plays_as_the_drawing_says_across_episode_ends():
    env = TwoRoomsVectorEnv(5, **SMALL, goal=[0, 4], max_episode_steps=9)
    slow = [SlowRooms((0, 4), 9) for _ in range(5)]
    observations, _ = env.reset(seed=0)
    for i, rooms in enumerate(slow):
        np.testing.assert_array_equal(rooms.start(rooms.free[cell_of(observations[i])]), observations[i])

    rng = np.random.default_rng(1)
    num_terminations = num_truncations = 0
    for _ in range(500):
        actions = rng.integers(4, size=5)
        observations, rewards, terminations, truncations, infos = env.step(actions)
        for i, (rooms, action) in enumerate(zip(slow, actions.tolist(), strict=True)):
            expected, reward, terminated, truncated = rooms.step(action)
            assert rewards[i] == pytest.approx(reward)
            assert (terminations[i], truncations[i]) == (terminated, truncated)
            last = observations[i]
            if terminated or truncated:
                assert infos["_final_obs"][i]
                last = infos["final_obs"][i]
                first = rooms.start(rooms.free[cell_of(observations[i])])
                np.testing.assert_array_equal(observations[i], first)
            else:
                assert not infos or (infos["final_obs"][i] is None and not infos["_final_obs"][i])
            np.testing.assert_array_equal(last, expected)
        num_terminations += terminations.sum()
        num_truncations += truncations.sum()
    assert num_terminations > 20 and num_truncations > 20  # else nothing was compared


def test_the_one_hot_state_tells_exactly_what_the_features_tell():
    envs = [TwoRoomsVectorEnv(4, **SMALL, slip=0.3, observation=kind) for kind in ("state", "features")]
    (states, _), (features, _) = (env.reset(seed=3) for env in envs)
    rng = np.random.default_rng(3)
    seen = {}
    for _ in range(3000):
        assert states.dtype == np.bool_ and features.dtype == np.float32
        assert (states.sum(axis=1) == 1).all()
        for index, told in zip(states.argmax(axis=1).tolist(), features, strict=True):
            assert seen.setdefault(index, told.tobytes()) == told.tobytes()
        actions = rng.integers(4, size=4)
        states, features = (env.step(actions)[0] for env in envs)
    assert len(set(seen.values())) == len(seen) > 70


def test_states_are_numbered_by_cell_then_history():
    rooms = TwoRoomsMap(**SMALL, goal=0)
    assert rooms.num_cells == 14 and rooms.num_states == 14 * 9
    np.testing.assert_array_equal(rooms.corridor_states(RIGHT), [6 * 9 + 2, 7 * 9 + 2])
    at_5 = rooms.first_states(np.array([5]))
    np.testing.assert_array_equal(at_5, [45])
    to_6 = rooms.next_states(at_5, np.array([RIGHT]), np.array([RIGHT]))
    np.testing.assert_array_equal(to_6, rooms.corridor_states(RIGHT)[:1])
    bumped = rooms.next_states(to_6, np.array([UP]), np.array([UP]))
    np.testing.assert_array_equal(bumped, [6 * 9 + 1 + 4 + UP])
    slipped = rooms.next_states(to_6, np.array([UP]), np.array([LEFT]))
    np.testing.assert_array_equal(slipped, [5 * 9 + 1 + UP])
    np.testing.assert_allclose(
        rooms.rewards[[45, 6 * 9 + 2, 6 * 9 + 5, 2]], [0.0, -0.1, -0.6, 0.9], rtol=1e-6
    )


def test_starts_are_uniform_over_all_free_cells_but_the_goal():
    env = TwoRoomsVectorEnv(14_000, **SMALL, goal=6)
    counts = np.bincount(env.reset(seed=0)[0][:, :14].argmax(axis=1), minlength=14)
    assert counts[6] == 0
    np.testing.assert_allclose(np.delete(counts, 6) / 14_000, 1 / 13, atol=0.01)


def test_slips_are_as_often_as_asked_and_the_agent_remembers_its_choice():
    env = TwoRoomsVectorEnv(20_000, room_height=1, room_width=1, corridor_length=9, goal=0, slip=0.4)
    env.reset(seed=0)
    # Up and down are walls: the agent moves only if it slips to the left, or right but at the end.
    observations, rewards, terminations, *_ = env.step(np.full(20_000, UP))
    assert (observations[~terminations, -5 + UP] == 1).all()
    moved = (rewards > -0.2).mean()
    assert moved == pytest.approx(0.4 * (9 * 2 / 4 + 1 / 4) / 10, abs=0.01)


def test_tasks_have_different_goals_in_alternate_rooms():
    goals = [TwoRoomsMap(**SMALL, task=task).goal_cell for task in range(13)]
    assert len(set(goals[:12])) == 12  # 2 rooms of 6 cells
    assert goals[12] == goals[0]
    columns = TwoRoomsMap(**SMALL).locations[goals, 1]
    assert (columns[::2] < 2).all() and (columns[1::2] >= 4).all()


def test_a_goal_is_given_by_number_or_by_row_and_column():
    assert TwoRoomsMap(**SMALL, goal=[1, 3]).goal_cell == TwoRoomsMap(**SMALL, goal=7).goal_cell == 7
    assert TwoRoomsMap(**SMALL, goal=(2, 5)).goal_cell == 13


@pytest.mark.parametrize("observation", ["state", "features"])
def test_the_single_env_is_gymnasiums_and_plays_as_a_vector_env_of_one(observation):
    env = TwoRoomsEnv(**SMALL, observation=observation, max_episode_steps=7)
    check_env(env, skip_render_check=True)
    vector = TwoRoomsVectorEnv(1, **SMALL, observation=observation, max_episode_steps=7)
    assert isinstance(env, gym.Env) and env.get_action_meanings() == ["UP", "RIGHT", "DOWN", "LEFT"]
    assert env.observation_space == vector.single_observation_space
    assert vector.metadata["autoreset_mode"] == AutoresetMode.SAME_STEP

    played, _ = env.reset(seed=2)
    expected, _ = vector.reset(seed=2)
    np.testing.assert_array_equal(played, expected[0])
    for step in range(7):
        played, reward, terminated, truncated, _ = env.step(UP)
        expected, rewards, terminations, truncations, infos = vector.step(np.array([UP]))
        assert env.observation_space.contains(played)
        assert (reward, terminated, truncated) == (rewards[0], terminations[0], truncations[0])
        assert truncated == (step == 6) and not terminated
        np.testing.assert_array_equal(played, infos["final_obs"][0] if truncated else expected[0])


def test_an_episodes_last_observation_is_not_written_again():
    env = TwoRoomsEnv(**SMALL, max_episode_steps=1)
    env.reset(seed=0)
    last = env.step(UP)[0]
    before = last.copy()
    env.reset(seed=1)
    env.step(LEFT)
    np.testing.assert_array_equal(last, before)


def test_draws_walls_goal_and_agent():
    env = TwoRoomsEnv(**SMALL, goal=0, render_mode="rgb_array")
    env.reset(seed=0)
    picture = env.render()
    assert picture.shape == (5 * 16, 8 * 16, 3) and picture.dtype == np.uint8
    colours, counts = np.unique(picture[8::16, 8::16].reshape(-1, 3), axis=0, return_counts=True)
    assert len(colours) == 4
    assert sorted(counts) == [1, 1, 12, 26]  # goal, agent, other free cells, walls
    np.testing.assert_array_equal(picture[24, 24], [90, 180, 90])
    assert TwoRoomsEnv(**SMALL).render() is None


def test_optimal_values_by_hand():
    rooms = TwoRoomsMap(room_height=1, room_width=1, corridor_length=2, goal=3)  # 0 1 2 goal
    np.testing.assert_allclose(optimal_values(rooms), [0.7, 0.8, 0.9, 0.0], rtol=1e-6)
    assert optimal_return(rooms) == pytest.approx(0.8)
    # From the first cell two steps are not enough: all one can do is not to bump, for -0.1 each.
    np.testing.assert_allclose(optimal_values(rooms, max_episode_steps=2), [-0.2, 0.8, 0.9, 0.0], rtol=1e-6)
    # If every step goes anywhere: beside the goal up and down give -0.6, left -0.1 and right 0.9.
    beside = optimal_values(rooms, slip=1.0, max_episode_steps=1)[2]
    assert beside == pytest.approx((-0.6 - 0.6 - 0.1 + 0.9) / 4)


@pytest.mark.parametrize("slip", [0.0, 0.2])
def test_a_policy_that_is_greedy_in_optimal_values_earns_the_optimal_return(slip):
    env = TwoRoomsVectorEnv(4000, room_height=3, room_width=3, corridor_length=3, slip=slip)
    values = optimal_values(env.map, slip=slip)
    next_values = np.where(env.map.next_cells == env.map.goal_cell, 1.0, values[env.map.next_cells])
    bumps = env.map.next_cells == np.arange(env.map.num_cells)[:, None]
    best = np.argmax(next_values - 0.5 * bumps, axis=1)

    observations, _ = env.reset(seed=0)
    returns, running = np.zeros(4000), np.ones(4000, bool)
    for _ in range(100):
        observations, rewards, terminations, *_ = env.step(best[observations[:, :-5].argmax(axis=1)])
        returns += rewards * running
        running &= ~terminations
    assert not running.any()
    error = returns.std() / np.sqrt(4000)
    assert returns.mean() == pytest.approx(optimal_return(env.map, slip=slip), abs=4 * error)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"room_height": 0}, r"room_height is 0; it must be an integer >= 1"),
        ({"corridor_length": 1.5}, r"corridor_length is 1.5 \(float\); it must be an integer >= 1"),
        ({"max_episode_steps": None}, r"max_episode_steps is None \(NoneType\); it must be an integer >= 1"),
        ({"task": -1}, r"task is -1; it must be an integer >= 0"),
        ({"slip": 1.5}, r"slip is 1.5; it must be a number >= 0 and <= 1"),
        ({"observation": "pixels"}, r"observation is 'pixels'; it must be one of 'features', 'state'"),
        ({"goal": 14}, r"goal is 14; it must be a free cell: its number, 0 to 13 row by row,"),
        ({"goal": [0, 2]}, r"in the corridor \(columns 2 to 3\) only row 1"),
        ({"goal": "left"}, r"goal is 'left'"),
        ({"render_mode": "human"}, r"render_mode is 'human'; it must be 'rgb_array' or None"),
    ],
)
def test_a_wrong_option_is_named_with_what_is_allowed(options, message):
    with pytest.raises(DistillError, match=message):
        TwoRoomsEnv(**SMALL | options)


@pytest.mark.slow
@pytest.mark.parametrize("observation", ["state", "features"])
def test_steps_are_fast(observation):
    from time import process_time

    env = TwoRoomsVectorEnv(16, observation=observation)
    env.reset(seed=0)
    actions = np.random.default_rng(0).integers(4, size=(5000, 16))
    began = process_time()
    for action in actions:
        env.step(action)
    # Measured: 900k steps/s of an idle core; the guard leaves room for a busy one.
    assert 5000 * 16 / (process_time() - began) > 100_000
