"""Mazes against a walk by hand, a slow game that looks at one cell at a time, and gymnasium's vector env."""

import time

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.seeding import np_random
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from rllib_distill.errors import DistillError
from rllib_distill.tasks.maze_layout import MazeLayout
from rllib_distill.tasks.mazes import MazeEnv, MazeVectorEnv
from rllib_distill.tasks.vector_envs import find_env_spec
from tests.tasks.playing import assert_same, play

TASKS = range(8)
FORWARD, LEFT, RIGHT = range(3)
SMALL = {"task": 3, "size": 5, "view": 3, "apples": 2}


def map_of(layout):
    """The maze as text: walls `#`, apples `a`, the goal `G`."""
    letters = [["#" if wall else "." for wall in row] for row in layout.walls]
    for cell, letter in [(layout.goal_cell, "G"), *((cell, "a") for cell in layout.apple_cells)]:
        row, column = layout.locations[cell]
        letters[row][column] = letter
    return ["".join(row) for row in letters]


def text_of(view):
    """A view as text, in the letters of `map_of`."""
    assert (view.sum(axis=-1) <= 1).all()  # nothing is two things
    return ["".join("." if not cell.any() else "#aG"[cell.argmax()] for cell in row) for row in view]


class SlowMaze:
    """One agent in a maze, read off the map: everything in loops over single cells."""

    ahead = ((-1, 0), (0, 1), (1, 0), (0, -1))  # up, right, down, left

    def __init__(self, layout, view, max_episode_steps, seed):
        self.map = map_of(layout)
        self.view, self.max_episode_steps = view, max_episode_steps
        self.random = np_random(seed)[0]
        self.starts = [
            (row, column, heading)
            for row, letters in enumerate(self.map)
            for column, letter in enumerate(letters)
            for heading in range(4)
            if letter == "."
        ]

    def reset(self):
        self.steps = 0
        self.begin_round()
        return self.look()

    def begin_round(self):
        self.row, self.column, self.heading = self.starts[self.random.integers(len(self.starts))]
        self.eaten = set()

    def step(self, action):
        self.steps += 1
        if action == LEFT:
            self.heading = (self.heading + 3) % 4
        elif action == RIGHT:
            self.heading = (self.heading + 1) % 4
        else:
            down, right = self.ahead[self.heading]
            if self.map[self.row + down][self.column + right] != "#":
                self.row, self.column = self.row + down, self.column + right
        reward = 0.0
        if self.at(self.row, self.column) == "a":
            self.eaten.add((self.row, self.column))
            reward = 0.1
        elif self.at(self.row, self.column) == "G":
            self.begin_round()
            reward = 1.0
        return self.look(), reward, self.steps == self.max_episode_steps

    def at(self, row, column):
        if not (0 <= row < len(self.map) and 0 <= column < len(self.map)):
            return "#"
        return "." if (row, column) in self.eaten else self.map[row][column]

    def look(self):
        down, right = self.ahead[self.heading]
        view = []
        for forward in reversed(range(self.view)):
            letters = ""
            for aside in range(-(self.view // 2), self.view // 2 + 1):
                # to the right of (down, right) is (right, -down)
                letters += self.at(
                    self.row + forward * down + aside * right, self.column + forward * right - aside * down
                )
            view.append(letters)
        return view


def mostly_forward(rng, size=None):
    return rng.choice(3, p=[0.6, 0.2, 0.2], size=size)


def reset_to(env, view):
    """Resets until the agent sees this."""
    for seed in range(300):
        if text_of(env.reset(seed=seed)[0]) == view:
            return
    raise AssertionError("no seed begins there")


def test_a_task_is_the_same_maze_on_every_machine():
    assert map_of(MazeLayout(task=0, size=11, apples=2)) == [
        "###########",
        "#...#...#.#",
        "#.#.#a#.#.#",
        "#.....#G.a#",
        "#.#.#.###.#",
        "#.#.......#",
        "#.#####.#.#",
        "#.#.......#",
        "#.#.#####.#",
        "#...#.....#",
        "###########",
    ]
    assert map_of(MazeLayout(3, 5, 2)) == ["#####", "#.#G#", "#.#.#", "#.aa#", "#####"]


@pytest.mark.parametrize("size", [5, 11, 17])
@pytest.mark.parametrize("task", TASKS)
def test_every_free_cell_can_be_reached_and_there_are_loops(task, size):
    layout = MazeLayout(task, size, 0)
    reached = {0}
    for _ in range(layout.num_cells):
        reached |= {int(cell) for cell in layout.next_cells[list(reached)].reshape(-1)}
    assert len(reached) == layout.num_cells
    joined = sum(int(cell) != here for here, cells in enumerate(layout.next_cells) for cell in cells) // 2
    assert joined >= layout.num_cells - 1 + (size > 5)  # a tree has one less than it has cells
    walls = layout.walls
    assert walls[0].all() and walls[-1].all() and walls[:, 0].all() and walls[:, -1].all()


def test_tasks_differ_in_walls_goal_and_apples():
    layouts = [MazeLayout(task, 11, 6) for task in TASKS]
    for parts in (
        [layout.walls.tobytes() for layout in layouts],
        [tuple(layout.locations[layout.goal_cell]) for layout in layouts],
        [tuple(map(tuple, layout.locations[layout.apple_cells])) for layout in layouts],
    ):
        assert len(set(parts)) == len(TASKS)


def test_apples_goal_and_starts_are_in_different_cells_and_more_apples_keep_the_first():
    layout, more = MazeLayout(2, 11, 6), MazeLayout(2, 11, 9)
    cells = [layout.goal_cell, *layout.apple_cells, *layout.start_cells]
    assert sorted(cells) == list(range(layout.num_cells))
    assert more.goal_cell == layout.goal_cell and (more.walls == layout.walls).all()
    assert more.apple_cells[:6].tolist() == layout.apple_cells.tolist()


def test_a_walk_by_hand_eats_apples_once_and_reaches_the_goal():
    env = MazeEnv(**SMALL)
    # ##### The agent in the first row and column, looking down, sees an apple two ahead to its left.
    # #.#G#
    # #.#.#
    # #.aa#
    # #####
    reset_to(env, ["a.#", "#.#", "#.#"])
    seen = [["###", "a.#", "#.#"], ["###", "###", "a.#"], ["###", "###", "a.#"]]  # the third is at a wall
    for view in seen:
        observation, reward, terminated, truncated, _ = env.step(FORWARD)
        assert (text_of(observation), reward, terminated, truncated) == (view, 0.0, False, False)
    assert text_of(env.step(LEFT)[0]) == [".a#", "#a#", "..#"]
    observation, reward, *_ = env.step(FORWARD)
    assert reward == pytest.approx(0.1) and text_of(observation) == ["###", ".a#", "#.#"]
    assert [env.step(action)[1] for action in (LEFT, RIGHT)] == [0.0, 0.0]  # the apple is gone
    assert [round(env.step(action)[1], 6) for action in (FORWARD, LEFT, FORWARD)] == [0.1, 0.0, 0.0]
    observation, reward, terminated, *_ = env.step(FORWARD)
    assert reward == 1.0 and not terminated
    # The agent is somewhere else, and the apples are there again.
    assert env._mazes._apples_left[0, 1:].all()
    assert env._mazes._places[0] // 4 in env.layout.start_cells


@pytest.mark.parametrize(
    ("task", "size", "view", "apples"), [(0, 11, 7, 6), (3, 5, 3, 2), (5, 7, 9, 0), (1, 9, 5, 20)]
)
def test_plays_what_a_slow_game_plays(task, size, view, apples):
    env = MazeEnv(task=task, size=size, view=view, apples=apples, max_episode_steps=250)
    slow = SlowMaze(MazeLayout(task, size, apples), view, max_episode_steps=250, seed=4)
    rng = np.random.default_rng(0)
    assert text_of(env.reset(seed=4)[0]) == slow.reset()
    rewards = []
    for _ in range(1_000):
        action = mostly_forward(rng)
        observation, reward, terminated, truncated, _ = env.step(action)
        expected_view, expected_reward, expected_truncated = slow.step(action)
        assert text_of(observation) == expected_view
        assert reward == pytest.approx(expected_reward)
        assert not terminated and truncated == expected_truncated
        rewards.append(round(reward, 6))
        if truncated:
            assert text_of(env.reset()[0]) == slow.reset()
    # The comparison means something only if the goal was reached, and apples eaten.
    assert 1.0 in rewards and (0.1 in rewards) == (apples > 0)


def test_plays_as_gymnasiums_vector_env_plays_single_mazes_across_episode_ends():
    oracle = SyncVectorEnv(
        [lambda: MazeEnv(**SMALL, max_episode_steps=30)] * 3, autoreset_mode=AutoresetMode.SAME_STEP
    )
    env = MazeVectorEnv(3, **SMALL, max_episode_steps=30)
    assert env.single_observation_space == oracle.single_observation_space
    assert env.single_action_space == oracle.single_action_space
    assert env.metadata["autoreset_mode"] == AutoresetMode.SAME_STEP
    actions = mostly_forward(np.random.default_rng(3), size=(400, 3))
    played = play(env, actions, seed=3)
    assert_same(played, play(oracle, actions, seed=3))
    rewards, truncations = (np.array([step[i] for step in played[1:]]) for i in (1, 3))
    assert rewards.dtype == np.float32 and truncations.dtype == np.bool_
    assert (rewards >= 1).sum() > 10 and truncations.sum() == 3 * (400 // 30)


@pytest.mark.parametrize("task", TASKS)
def test_views_tell_most_places_apart_so_that_no_memory_is_needed(task):
    views = MazeVectorEnv(1, task=task)._fixed_views
    assert len(np.unique(views.reshape(len(views), -1), axis=0)) > 0.85 * len(views)


def test_steps_many_mazes_at_once():
    env = MazeVectorEnv(16)
    env.reset(seed=0)
    actions = np.random.default_rng(0).integers(3, size=(1_000, 16))

    def steps_per_second():
        start = time.perf_counter()
        for row in actions:
            env.step(row)
        return actions.size / (time.perf_counter() - start)

    assert max(steps_per_second() for _ in range(3)) > 60_000  # 350,000 on an idle core


def test_a_picture_shows_the_agent_what_it_sees_and_the_apples_that_are_left():
    env = MazeEnv(**SMALL, render_mode="rgb_array")
    reset_to(env, ["a.#", "#.#", "#.#"])
    before = env.render()
    assert before.shape == (5 * 24, 5 * 24, 3) and before.dtype == np.uint8

    def tile(picture, row, column):
        return picture[24 * row : 24 * (row + 1), 24 * column : 24 * (column + 1)].astype(int)

    red = lambda pixels: ((pixels[..., 0] > 1.8 * pixels[..., 1]) & (pixels[..., 0] > 90)).any()  # noqa: E731
    blue = lambda pixels: (pixels[..., 2] > 1.8 * pixels[..., 0]).any()  # noqa: E731
    assert [(row, column) for row in range(5) for column in range(5) if blue(tile(before, row, column))] == [
        (1, 1)
    ]
    assert [(row, column) for row in range(5) for column in range(5) if red(tile(before, row, column))] == [
        (3, 2),
        (3, 3),
    ]
    assert tile(before, 2, 1).mean() > 1.3 * tile(before, 2, 3).mean()  # seen, and not
    for action in (FORWARD, FORWARD, LEFT, FORWARD, FORWARD):
        env.step(action)
    after = env.render()
    assert blue(tile(after, 3, 3)) and not blue(tile(after, 1, 1)) and not red(tile(after, 3, 2))
    assert MazeEnv().render() is None


def test_the_id_makes_the_env_for_gymnasium_with_its_time_limit():
    env = gym.make(find_env_spec("rllib_distill/Maze-v0"), task=2, render_mode="rgb_array")
    assert isinstance(env.unwrapped, MazeEnv) and env.spec.max_episode_steps == 100
    assert env.unwrapped.get_action_meanings() == ["forward", "left", "right"]
    env.reset(seed=0)
    assert env.render().shape == (264, 264, 3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"task": -1}, r"task is -1; it must be an integer >= 0"),
        ({"task": True}, r"task is True"),
        ({"size": 10}, r"size is 10; it must be odd"),
        ({"size": 3}, r"size is 3"),
        ({"size": 53}, r"size is 53; it must be an integer >= 5 and <= 51"),
        ({"size": "11"}, r"size is '11'"),
        ({"view": 4}, r"view is 4; it must be odd"),
        ({"view": 1}, r"view is 1; it must be an integer >= 3 and <= 21"),
        ({"apples": -1}, r"apples is -1; it must be an integer >= 0 and <= 52"),
        ({"size": 5, "apples": 6}, r"apples is 6; it must be an integer >= 0 and <= 5"),
        ({"apples": 1.5}, r"apples is 1\.5"),
        ({"max_episode_steps": 0}, r"max_episode_steps is 0; it must be an integer >= 1"),
        ({"render_mode": "human"}, r"render_mode is 'human'; it must be 'rgb_array' or None"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(DistillError, match=message):
        MazeEnv(**options)


def test_as_many_apples_as_fit_leave_one_cell_to_start_in():
    env = MazeVectorEnv(2, size=5, task=3, apples=5)
    assert len(env.layout.start_cells) == 1
    env.reset(seed=0)
