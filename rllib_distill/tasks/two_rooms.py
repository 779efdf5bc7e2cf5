"""Two rooms joined by a corridor: the gridworld of Distral (Teh et al., 2017, https://arxiv.org/abs/1707.04175).

The paper tells neither its rooms' size nor its rewards: those are choices of this package.
"""

from collections.abc import Sequence
from typing import Any, Literal, get_args

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box, Discrete
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from rllib_distill.errors import DistillError
from rllib_distill.tasks.options import check_render_mode, check_whole_number
from rllib_distill.tasks.two_rooms_map import ACTION_MEANINGS, TwoRoomsMap

Observation = Literal["features", "state"]

_CELL_PIXELS = 16
_WALL, _FREE, _GOAL, _AGENT = (60, 60, 60), (255, 255, 255), (90, 180, 90), (40, 90, 200)


class TwoRoomsVectorEnv(VectorEnv[NDArray[Any], NDArray[np.int64], NDArray[Any]]):
    """`num_envs` agents in the same two rooms, stepped together; SAME_STEP autoreset.

    Actions are up, right, down, left. Every step costs 0.1, and another 0.5 if the agent bumps into a
    wall; the goal gives +1 and ends the episode. Episodes start in a free cell, drawn uniformly, that is not
    the goal. Tasks differ in their goal only.

    Observations are `(num_envs, num_states)` bool or `(num_envs, cells + 5)` float32 (see `observation`),
    rewards `(num_envs,)` float32, terminations and truncations `(num_envs,)` bool. The arrays that `reset`
    and `step` return are written again by the next call.
    """

    metadata = {"autoreset_mode": AutoresetMode.SAME_STEP}  # noqa: RUF012  # gymnasium's own convention

    def __init__(
        self,
        num_envs: int,
        *,
        goal: int | Sequence[int] | None = None,
        task: int = 0,
        room_height: int = 5,
        room_width: int = 4,
        corridor_length: int = 4,
        slip: float = 0.0,
        observation: Observation = "features",
        max_episode_steps: int = 100,
    ) -> None:
        """Builds the rooms.

        Args:
            num_envs: how many agents, each alone in its rooms.
            goal: a free cell's number (row by row) or `[row, column]`; None: that of `task`.
            task: which goal, if none is given: even tasks' are in the left room, odd ones' in the right one.
            room_height: rows of each room.
            room_width: columns of each room.
            corridor_length: columns between the rooms.
            slip: probability in [0, 1] that a step goes in a direction drawn uniformly, whatever was chosen.
            observation: `"state"`: one-hot of the state (location, previous action, previous reward), for
                tables; `"features"`: one-hot location, one-hot previous action and the previous reward.
            max_episode_steps: episodes are truncated after so many steps.

        Raises:
            DistillError: an option's value is not allowed.
        """
        check_whole_number("num_envs", num_envs, at_least=1)
        check_whole_number("max_episode_steps", max_episode_steps, at_least=1)
        if not isinstance(slip, int | float) or not 0 <= slip <= 1:
            raise DistillError(f"slip is {slip!r}; it must be a probability in [0, 1].")
        if observation not in get_args(Observation):
            raise DistillError(f"observation is {observation!r}; it must be 'features' or 'state'.")
        self.map = TwoRoomsMap(room_height, room_width, corridor_length, goal, task)
        self.slip = slip
        self.max_episode_steps = max_episode_steps

        # A state tells all that an agent sees, so steps only look things up.
        self._table = self.map.one_hot_states() if observation == "state" else self.map.features()
        self._table.flags.writeable = False
        low, high = float(self._table.min()), float(self._table.max())

        self.num_envs = num_envs
        dtype: Any = self._table.dtype  # gymnasium's type hints leave bool out
        self.single_observation_space = Box(low, high, shape=self._table.shape[1:], dtype=dtype)
        self.single_action_space = Discrete(len(ACTION_MEANINGS))
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)

        self._random = np.random.default_rng()
        self._states = np.zeros(num_envs, np.int64)
        self._elapsed_steps = np.zeros(num_envs, np.int64)
        self._observations = np.zeros((num_envs, *self._table.shape[1:]), dtype)
        self._rewards = np.zeros(num_envs, np.float32)
        self._terminations = np.zeros(num_envs, np.bool_)
        self._truncations = np.zeros(num_envs, np.bool_)

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[Any], dict[str, Any]]:
        """Starts a new episode for every agent.

        Args:
            seed: of the one random generator that all agents share, so an agent's episodes depend on
                `num_envs`; None: it goes on. Several seeds make one.
            options: there are none.
        """
        if isinstance(seed, Sequence):
            seed = None if None in seed else list(seed)
        if seed is not None:
            self._random = np.random.default_rng(seed)  # type: ignore[arg-type]  # no None among the seeds
        self._states[:] = self._draw_first_states(self.num_envs)
        self._elapsed_steps[:] = 0
        return self._observe(), {}

    def step(
        self, actions: NDArray[np.int64]
    ) -> tuple[NDArray[Any], NDArray[np.float32], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]:
        """Moves every agent.

        Args:
            actions: `(num_envs,)` in 0 to 3.

        Returns:
            Observations, rewards, terminations, truncations, infos. Where an episode ended, `infos` holds its
            last observation in `final_obs` (an object array, None elsewhere) and the mask `_final_obs`.
        """
        directions = self._slipped(actions) if self.slip else actions
        self._states = self.map.next_states(self._states, actions, directions)
        self._elapsed_steps += 1
        self.map.rewards.take(self._states, out=self._rewards, mode="clip")
        self.map.at_goal.take(self._states, out=self._terminations, mode="clip")
        np.greater_equal(self._elapsed_steps, self.max_episode_steps, out=self._truncations)
        ended = self._terminations | self._truncations
        infos = self._start_new_episodes(ended) if ended.any() else {}
        return self._observe(), self._rewards, self._terminations, self._truncations, infos

    def _slipped(self, actions: NDArray[np.int64]) -> NDArray[np.int64]:
        slips = self._random.random(self.num_envs) < self.slip
        return np.where(slips, self._random.integers(len(ACTION_MEANINGS), size=self.num_envs), actions)

    def _start_new_episodes(self, ended: NDArray[np.bool_]) -> dict[str, Any]:
        final_obs = np.empty(self.num_envs, dtype=object)  # filled with None
        for i in np.flatnonzero(ended).tolist():
            final_obs[i] = self._table[self._states[i]]
        self._states[ended] = self._draw_first_states(int(ended.sum()))
        self._elapsed_steps[ended] = 0
        return {"final_obs": final_obs, "_final_obs": ended}

    def _draw_first_states(self, count: int) -> NDArray[np.int64]:
        starts = self.map.start_cells
        return self.map.first_states(starts[self._random.integers(len(starts), size=count)])

    def _observe(self) -> NDArray[Any]:
        # mode="clip" (no state is out of range) because the default one buffers what it writes to `out`
        return self._table.take(self._states, axis=0, out=self._observations, mode="clip")

    def picture(self, index: int) -> NDArray[np.uint8]:
        """Agent `index` in its rooms, `(height, width, 3)` uint8: walls, free cells, the goal, the agent."""
        cells = np.full((*np.add(self.map.free.shape, 2), 3), _WALL, np.uint8)
        inner = cells[1:-1, 1:-1]  # a view, without the wall around
        inner[self.map.free] = _FREE
        inner[tuple(self.map.locations[self.map.goal_cell])] = _GOAL
        inner[tuple(self.map.locations[self.map.cells_of(self._states[index])])] = _AGENT
        return cells.repeat(_CELL_PIXELS, axis=0).repeat(_CELL_PIXELS, axis=1)


class TwoRoomsEnv(gym.Env[NDArray[Any], Any]):
    """One agent in the two rooms, with the options of `TwoRoomsVectorEnv` but `num_envs`."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 8}  # noqa: RUF012  # gymnasium's own convention

    def __init__(self, *, render_mode: str | None = None, **options: Any) -> None:
        """Builds the rooms.

        Args:
            render_mode: None, or `"rgb_array"`.
            options: see `TwoRoomsVectorEnv`.

        Raises:
            DistillError: an option's value is not allowed.
        """
        check_render_mode(render_mode)
        self.render_mode = render_mode
        self._rooms = TwoRoomsVectorEnv(1, **options)
        self.map = self._rooms.map
        self.observation_space = self._rooms.single_observation_space
        self.action_space = self._rooms.single_action_space

    def get_action_meanings(self) -> list[str]:
        """The actions' names."""
        return list(ACTION_MEANINGS)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[Any], dict[str, Any]]:
        """Starts a new episode."""
        super().reset(seed=seed)
        observations, infos = self._rooms.reset(seed=seed)
        return observations[0].copy(), infos

    def step(self, action: Any) -> tuple[NDArray[Any], float, bool, bool, dict[str, Any]]:
        """Moves the agent."""
        observations, rewards, terminations, truncations, infos = self._rooms.step(np.array([action]))
        last = infos["final_obs"][0] if infos else observations[0]
        return last.copy(), float(rewards[0]), bool(terminations[0]), bool(truncations[0]), {}

    def render(self) -> Any:
        """A picture `(height, width, 3)` uint8 of where the agent is."""
        return None if self.render_mode is None else self._rooms.picture(0)
