"""Mazes with apples, a goal and an egocentric view; tasks have the same rules and different walls.

They follow the mazes of Distral (Teh et al., 2017, https://arxiv.org/abs/1707.04175), but on a grid instead
of in first-person 3D. The size, the rewards and the view are choices of this package.
"""

import sys
from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box, Discrete
from gymnasium.utils.seeding import np_random
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray
from typing_extensions import override

from rllib_distill.errors import DistillError, check_number
from rllib_distill.tasks.maze_layout import STEPS, MazeLayout, check_odd, draw_maze
from rllib_distill.tasks.spaces import check_render_mode

WALL, APPLE, GOAL = range(3)
"""The channels of a view."""


def seen_locations(layout: MazeLayout, view: int) -> NDArray[np.int64]:
    """Returns the locations in the maze of all cells of a view, for every free cell and heading of the agent.

    The agent stands in the middle of the view's last row; the rows above are ahead of it.

    Args:
        layout: The maze.
        view: Cells per side of a view.

    Returns:
        `(cells, 4, view, view, 2)` rows and columns, some of them outside of the maze.
    """
    ahead = np.arange(view - 1, -1, -1)[:, None, None]  # how far each row of a view is ahead of the agent
    aside = np.arange(view)[:, None] - view // 2  # how far each column of a view is to the agent's right
    to_the_right = np.roll(STEPS, -1, axis=0)
    offsets = ahead * STEPS[:, None, None] + aside * to_the_right[:, None, None]  # (4, view, view, 2)
    seen: NDArray[np.int64] = layout.locations[:, None, None, None] + offsets
    return seen


def fixed_views(layout: MazeLayout, view: int) -> NDArray[np.bool_]:
    """The view from every place, `(cells * 4, view, view, 3)` bool, without apples; outside are walls."""
    is_wall = _seen(layout.walls, layout, view, outside=True)
    views = np.zeros((*is_wall.shape, 3), np.bool_)
    views[..., WALL] = is_wall
    views[..., GOAL] = _seen(layout.cell_at == layout.goal_cell, layout, view, outside=False)
    return views


def apple_views(layout: MazeLayout, view: int) -> NDArray[np.int64]:
    """The apples in the view from every place, `(cells * 4, view, view)`: 1 is the first apple, 0 is none."""
    numbers = np.zeros((layout.size, layout.size), np.int64)
    numbers[tuple(layout.locations[layout.apple_cells].T)] = 1 + np.arange(layout.apples)
    return _seen(numbers, layout, view, outside=0)


def _seen(world: NDArray[Any], layout: MazeLayout, view: int, *, outside: int) -> NDArray[Any]:
    padded = np.pad(world, view, constant_values=outside)
    rows, columns = np.moveaxis(seen_locations(layout, view) + view, -1, 0)
    seen: NDArray[Any] = padded[rows, columns].reshape(-1, view, view)
    return seen


ACTION_MEANINGS = ("forward", "left", "right")
GOAL_REWARD, APPLE_REWARD = 1.0, 0.1

_HEADINGS = 4  # up, right, down, left
MAX_VIEW = 21


class MazeVectorEnv(VectorEnv[NDArray[np.bool_], NDArray[np.int64], NDArray[Any]]):
    """`num_envs` agents, each alone in the same maze, stepped together; SAME_STEP autoreset.

    The actions are a step forward (without effect if there is a wall) and turning left or right. An apple
    gives a reward of 0.1, once. The goal gives 1, brings all apples back and moves the agent to a random
    place; the episode goes on until `max_episode_steps`, so faster ways to the goal earn more. Tasks share
    these rules and the skills that they need (turn away from walls, follow corridors, take apples, go to the
    goal when it is in view), and differ in walls, goal and apples.

    Observations are `(num_envs, view, view, 3)` bool, with channels for walls, apples and goal. The agent is
    in the middle of the last row and looks up: the view turns with it. It sees through walls, so it needs no
    memory in mazes not much larger than the view. Rewards are `(num_envs,)` float32, terminations (always
    False) and truncations `(num_envs,)` bool. The next call of `reset` or `step` may overwrite the arrays
    that the last one returned.
    """

    metadata = {"autoreset_mode": AutoresetMode.SAME_STEP}  # noqa: RUF012  # gymnasium's own convention

    def __init__(
        self,
        num_envs: int,
        *,
        task: int = 0,
        size: int = 11,
        view: int = 7,
        apples: int = 6,
        max_episode_steps: int = 100,
    ) -> None:
        """Builds the maze.

        Args:
            num_envs: Number of agents.
            task: Number of the maze, from 0 (usually 0 to 7).
            size: Cells per side, including the outer walls; odd, 5 to 51.
            view: Cells per side of the agent's view; odd, 3 to 21.
            apples: Number of apples.
            max_episode_steps: Episodes are truncated after this many steps.

        Raises:
            DistillError: An option's value is not allowed.
        """
        check_number("num_envs", num_envs, least=1, integer=True)
        check_odd("view", view, least=3, most=MAX_VIEW)
        check_number("max_episode_steps", max_episode_steps, least=1, integer=True)
        self.layout = MazeLayout(task, size, apples)
        self.view = view
        self.max_episode_steps = max_episode_steps

        # A place is a cell and a heading, cell * 4 + heading. Steps only look up these tables, for speed.
        self._next_places = _next_places(self.layout)
        self._fixed_views = fixed_views(self.layout, view)
        self._apple_views = apple_views(self.layout, view)
        self._is_goal = np.arange(len(self._next_places)) // _HEADINGS == self.layout.goal_cell
        self._apple_at = np.zeros(len(self._next_places), np.int64)  # 1 is the first apple, 0 none
        apple_places = self.layout.apple_cells[:, None] * _HEADINGS + np.arange(_HEADINGS)
        self._apple_at[apple_places] = 1 + np.arange(apples)[:, None]
        start_places = self.layout.start_cells[:, None] * _HEADINGS + np.arange(_HEADINGS)
        self._start_places = start_places.reshape(-1)

        self.num_envs = num_envs
        boolean: Any = np.bool_  # gymnasium's type hints leave it out
        self.single_observation_space = Box(0.0, 1.0, (view, view, 3), dtype=boolean)
        self.single_action_space = Discrete(len(ACTION_MEANINGS))
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)

        self._randoms = [np_random()[0] for _ in range(num_envs)]
        self._places = np.zeros(num_envs, np.int64)
        self._apples_left = np.zeros(
            (num_envs, 1 + apples), np.bool_
        )  # the first column, for places without an apple, is always False
        self._elapsed_steps = np.zeros(num_envs, np.int64)
        self._rows = np.arange(num_envs)
        self._observations = np.zeros((num_envs, view, view, 3), np.bool_)
        self._terminations = np.zeros(num_envs, np.bool_)

    @override
    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.bool_], dict[str, Any]]:
        """Starts a new episode for every agent.

        Args:
            seed: Agent i is seeded with `seed + i`, or with `seed[i]`; None keeps its random state.
            options: Not used.

        Raises:
            DistillError: The number of seeds is not that of the agents.
        """
        seeds = [int(seed) + i for i in range(self.num_envs)] if isinstance(seed, int | np.integer) else seed
        if seeds is not None and len(seeds) != self.num_envs:
            raise DistillError(
                f"reset got {len(seeds)} seeds for {self.num_envs} mazes: give one int, or one seed for each."
            )
        for i in range(self.num_envs):
            if seeds is not None and seeds[i] is not None:
                self._randoms[i] = np_random(seeds[i])[0]
            self._begin_round(i)
        self._elapsed_steps[:] = 0
        return self._observe(), {}

    @override
    def step(
        self, actions: NDArray[np.int64]
    ) -> tuple[NDArray[np.bool_], NDArray[np.float32], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]:
        """Moves every agent.

        Args:
            actions: `(num_envs,)`: 0 forward, 1 left, 2 right.

        Returns:
            Observations, rewards, terminations, truncations, infos. Where an episode ended, `infos` holds its
            last observation in `final_obs` (an object array, None elsewhere) and the mask `_final_obs`.
        """
        self._places = self._next_places[self._places, actions]
        apples = self._apple_at[self._places]
        rewards = self._apples_left[self._rows, apples] * np.float32(APPLE_REWARD)
        self._apples_left[self._rows, apples] = False
        at_goal = self._is_goal[self._places]
        for i in np.flatnonzero(at_goal).tolist():
            rewards[i] += GOAL_REWARD
            self._begin_round(i)
        self._elapsed_steps += 1
        truncations = self._elapsed_steps >= self.max_episode_steps
        infos = self._start_new_episodes(truncations) if truncations.any() else {}
        return self._observe(), rewards, self._terminations, truncations, infos

    def draw(self, index: int) -> NDArray[np.uint8]:
        """Draws agent `index` in its maze, `(height, width, 3)` uint8; what it sees is brighter."""
        cell, heading = divmod(int(self._places[index]), _HEADINGS)
        apples = self.layout.apple_cells[self._apples_left[index, 1:]]
        seen = seen_locations(self.layout, self.view)[cell, heading].reshape(-1, 2)
        return draw_maze(self.layout, cell=cell, heading=heading, apple_cells=apples, seen=seen)

    def _begin_round(self, i: int) -> None:
        """Moves agent i to a random place and brings all apples back."""
        starts = self._start_places
        self._places[i] = starts[self._randoms[i].integers(len(starts))]
        self._apples_left[i, 1:] = True

    def _start_new_episodes(self, ended: NDArray[np.bool_]) -> dict[str, Any]:
        last = self._observe()
        final_obs = np.empty(self.num_envs, dtype=object)  # filled with None
        for i in np.flatnonzero(ended).tolist():
            final_obs[i] = last[i].copy()
            self._begin_round(i)
        self._elapsed_steps[ended] = 0
        return {"final_obs": final_obs, "_final_obs": ended}

    def _observe(self) -> NDArray[np.bool_]:
        # Indices are always in range; mode="clip" is set since the default mode buffers its writes to `out`.
        self._fixed_views.take(self._places, axis=0, out=self._observations, mode="clip")
        apples = self._apple_views[self._places]  # (num_envs, view, view)
        self._observations[..., APPLE] = self._apples_left[self._rows[:, None, None], apples]
        return self._observations


class MazeEnv(gym.Env[NDArray[np.bool_], Any]):
    """One agent in a maze, with the options of `MazeVectorEnv` except `num_envs`."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 8}  # noqa: RUF012  # gymnasium's own convention

    def __init__(
        self, *, render_mode: str | None = None, max_episode_steps: int = 100, **options: Any
    ) -> None:
        """Builds the maze.

        Args:
            render_mode: None, or `"rgb_array"`.
            max_episode_steps: Episodes are truncated after this many steps.
            options: The options of `MazeVectorEnv`.

        Raises:
            DistillError: An option's value is not allowed.
        """
        check_render_mode(render_mode)
        check_number("max_episode_steps", max_episode_steps, least=1, integer=True)
        self.render_mode = render_mode
        self.max_episode_steps = max_episode_steps
        self._elapsed_steps = 0
        # The vector env must not truncate: it would start the next episode, which is the task of `reset`.
        self._mazes = MazeVectorEnv(1, **options, max_episode_steps=sys.maxsize)
        self.layout = self._mazes.layout
        self.observation_space = self._mazes.single_observation_space
        self.action_space = self._mazes.single_action_space

    def get_action_meanings(self) -> list[str]:
        """Returns the actions' names; MiniGrid has the same names for the same actions."""
        return list(ACTION_MEANINGS)

    @override
    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.bool_], dict[str, Any]]:
        super().reset(seed=seed)
        self._elapsed_steps = 0
        observations, infos = self._mazes.reset(seed=None if seed is None else [seed])
        return observations[0].copy(), infos

    @override
    def step(self, action: Any) -> tuple[NDArray[np.bool_], float, bool, bool, dict[str, Any]]:
        observations, rewards, *_ = self._mazes.step(np.array([action]))
        self._elapsed_steps += 1
        is_truncated = self._elapsed_steps >= self.max_episode_steps
        return observations[0].copy(), float(rewards[0]), False, is_truncated, {}

    @override
    def render(self) -> Any:
        """Returns a picture of the maze, `(height, width, 3)` uint8; None without a render mode."""
        return None if self.render_mode is None else self._mazes.draw(0)


def _next_places(layout: MazeLayout) -> NDArray[np.int64]:
    """`(cells * 4, 3)`: the places to which forward, left and right lead from every place."""
    headings = np.arange(_HEADINGS)
    cells = np.arange(layout.num_cells)[:, None]
    forward = layout.next_cells * _HEADINGS + headings
    left = cells * _HEADINGS + (headings - 1) % _HEADINGS
    right = cells * _HEADINGS + (headings + 1) % _HEADINGS
    return np.stack([forward, left, right], axis=-1).reshape(-1, len(ACTION_MEANINGS))
