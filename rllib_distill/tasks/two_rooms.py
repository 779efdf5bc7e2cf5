"""Two rooms joined by a corridor (Teh et al., 2017): the tasks, and the returns of their optimal policies."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, get_args

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box, Discrete
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray
from typing_extensions import override

from rllib_distill.errors import DistillError, check_choice, check_number
from rllib_distill.tasks.spaces import check_render_mode

ACTION_MEANINGS = ("UP", "RIGHT", "DOWN", "LEFT")
STEP_REWARD, BUMP_REWARD, GOAL_REWARD = -0.1, -0.6, 0.9  # every step costs 0.1, a bump 0.5 more; the goal: +1

_MOVES = np.array([[-1, 0], [0, 1], [1, 0], [0, -1]])  # (row, column) of each action
# The previous step: none (0), or action a with a move (1 + a) or with a bump into a wall (1 + 4 + a).
_HISTORIES = 1 + 2 * len(_MOVES)
_GOAL_SEED = 170704175  # seeds the order in which tasks get their goals; it is the paper's arXiv number


@dataclass(frozen=True)
class TwoRoomsMap:
    """Two rooms side by side, joined by a corridor of one cell's height in their middle row.

    Free cells are numbered row by row. A state is the location, the previous action and the previous reward,
    as in the paper. There are cells * 9 states, since an episode's first state has no previous action, and
    each of the four actions either moved the agent or made it bump into a wall. If the agent slipped, the
    previous action is the one that was chosen, not the direction of the move.

    Attributes:
        room_height: Rows of each room.
        room_width: Columns of each room.
        corridor_length: Columns between the rooms.
        goal: A cell's number or `[row, column]`; None for the goal of `task`.
        task: Selects the goal if none is given. Even tasks have their goal in the left room, odd ones in the
            right room, and all goals differ as long as there are cells left.

    Raises:
        DistillError: A size is below 1, the task is below 0, or the goal is not a free cell.
    """

    room_height: int
    room_width: int
    corridor_length: int
    goal: int | Sequence[int] | None = None
    task: int = 0

    def __post_init__(self) -> None:
        for option in ("room_height", "room_width", "corridor_length"):
            check_number(option, getattr(self, option), least=1, integer=True)
        check_number("task", self.task, least=0, integer=True)
        _ = self.goal_cell  # raises an error if the goal is wrong

    @cached_property
    def free(self) -> NDArray[np.bool_]:
        """`(room_height, 2 * room_width + corridor_length)`: where there are no walls."""
        free = np.ones((self.room_height, 2 * self.room_width + self.corridor_length), np.bool_)
        corridor = slice(self.room_width, self.room_width + self.corridor_length)
        free[:, corridor] = False
        free[self.room_height // 2, corridor] = True
        return free

    @cached_property
    def locations(self) -> NDArray[np.int64]:
        """`(cells, 2)`: row and column of every free cell."""
        return np.argwhere(self.free)

    @property
    def num_cells(self) -> int:
        """The number of free cells."""
        return len(self.locations)

    @property
    def num_states(self) -> int:
        """The number of states (location, previous action, previous reward)."""
        return self.num_cells * _HISTORIES

    @cached_property
    def next_cells(self) -> NDArray[np.int64]:
        """`(cells, 4)`: the cell to which an action leads; the same cell if there is a wall."""
        numbers = np.full(np.add(self.free.shape, 2), -1)  # with a wall around
        numbers[1:-1, 1:-1][self.free] = np.arange(self.num_cells)
        rows, columns = (self.locations[:, None, :] + _MOVES + 1).transpose(2, 0, 1)
        reached = numbers[rows, columns]
        return np.where(reached < 0, np.arange(self.num_cells)[:, None], reached)

    @cached_property
    def goal_cell(self) -> int:
        """The number of the goal's cell."""
        if self.goal is None:
            return self._goal_of_task()
        for cell, location in enumerate(self.locations.tolist()):
            if self.goal == cell or (isinstance(self.goal, Sequence) and list(self.goal) == location):
                return cell
        height, width = self.free.shape
        corridor = f"{self.room_width} to {self.room_width + self.corridor_length - 1}"
        raise DistillError(
            f"goal is {self.goal!r}; it must be a free cell: its number, 0 to {self.num_cells - 1} row by "
            f"row, or [row, column] with row 0 to {height - 1} and column 0 to {width - 1}, in the corridor "
            f"(columns {corridor}) only row {height // 2}."
        )

    def _goal_of_task(self) -> int:
        columns = self.locations[:, 1]
        in_right_room = columns >= self.room_width + self.corridor_length
        room = np.flatnonzero(in_right_room if self.task % 2 else columns < self.room_width)
        order = np.random.default_rng([_GOAL_SEED, self.task % 2]).permutation(room)
        return int(order[self.task // 2 % len(order)])

    @cached_property
    def start_cells(self) -> NDArray[np.int64]:
        """`(cells - 1,)`: the cells where episodes start, which are all but the goal."""
        return np.delete(np.arange(self.num_cells), self.goal_cell)

    def first_states(self, cells: NDArray[np.int64]) -> NDArray[np.int64]:
        """Returns the first states of episodes that start in `cells`, an array of any shape."""
        return cells * _HISTORIES

    def cells_of(self, states: NDArray[np.int64]) -> NDArray[np.int64]:
        """Returns the numbers of the cells of `states`, an array of any shape."""
        return states // _HISTORIES

    def next_states(
        self, states: NDArray[np.int64], actions: NDArray[np.int64], directions: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """Returns the states after one step, an array of the shape to which the arguments broadcast.

        Args:
            states: The states before the step.
            actions: The actions that the agents chose, which are part of the next states.
            directions: The actions that took effect, which differ from `actions` where an agent slipped.
        """
        cells = self.cells_of(states)
        reached = self.next_cells[cells, directions]
        bumps = len(_MOVES) * (reached == cells)
        return np.asarray(reached * _HISTORIES + 1 + actions + bumps)

    @cached_property
    def rewards(self) -> NDArray[np.float32]:
        """`(num_states,)`: the reward of the step that led to a state; 0 for first states."""
        rewards = np.empty((self.num_cells, _HISTORIES), np.float32)
        rewards[:, 0] = 0.0
        rewards[:, 1 : 1 + len(_MOVES)] = STEP_REWARD
        rewards[:, 1 + len(_MOVES) :] = BUMP_REWARD
        rewards[self.goal_cell, 1:] = GOAL_REWARD
        return rewards.reshape(-1)

    @cached_property
    def at_goal(self) -> NDArray[np.bool_]:
        """`(num_states,)`: whether the state is at the goal, so that the episode is over."""
        return np.repeat(np.arange(self.num_cells) == self.goal_cell, _HISTORIES)

    def one_hot_states(self) -> NDArray[np.bool_]:
        """`(num_states, num_states)` bool: the one-hot observation of every state, for tabular methods."""
        return np.eye(self.num_states, dtype=np.bool_)

    def features(self) -> NDArray[np.float32]:
        """`(num_states, cells + 4 + 1)`: one-hot location, one-hot previous action and previous reward."""
        cells, histories = np.divmod(np.arange(self.num_states), _HISTORIES)
        actions = (histories - 1) % len(_MOVES)
        previous_action = np.eye(len(_MOVES), dtype=np.float32)[actions] * (histories > 0)[:, None]
        location = np.eye(self.num_cells, dtype=np.float32)[cells]
        return np.concatenate([location, previous_action, self.rewards[:, None]], axis=1, dtype=np.float32)

    def corridor_states(self, previous_action: int) -> NDArray[np.int64]:
        """`(corridor_length,)`: the states in the corridor after one action, without a bump, left to right.

        Args:
            previous_action: The index of the action.
        """
        columns = self.locations[:, 1]
        in_corridor = (columns >= self.room_width) & (columns < self.room_width + self.corridor_length)
        return np.flatnonzero(in_corridor) * _HISTORIES + 1 + previous_action


Observation = Literal["features", "state"]

_CELL_PIXELS = 16
_WALL, _FREE, _GOAL, _AGENT = (60, 60, 60), (255, 255, 255), (90, 180, 90), (40, 90, 200)


class TwoRoomsVectorEnv(VectorEnv[NDArray[Any], NDArray[np.int64], NDArray[Any]]):
    """`num_envs` agents in the same two rooms, stepped together; SAME_STEP autoreset.

    Actions are up, right, down, left. Every step costs 0.1, and another 0.5 if the agent bumps into a
    wall; the goal gives +1 and ends the episode. Episodes start in a free cell, drawn uniformly, that is not
    the goal. Tasks differ only in their goal.

    Observations are `(num_envs, num_states)` bool or `(num_envs, cells + 5)` float32 (see `observation`),
    rewards `(num_envs,)` float32, terminations and truncations `(num_envs,)` bool. The next call of `reset`
    or `step` may overwrite the arrays that the last one returned.
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
            num_envs: Number of agents, each alone in its rooms.
            goal: A free cell's number (row by row) or `[row, column]`; None for the goal of `task`.
            task: Selects the goal if none is given: in the left room if even, in the right one if odd.
            room_height: Rows of each room.
            room_width: Columns of each room.
            corridor_length: Columns between the rooms.
            slip: Probability in [0, 1] that a step goes in a direction drawn uniformly, whatever was chosen.
            observation: `"state"` is the one-hot state (location, previous action, previous reward), for
                tabular methods; `"features"` are one-hot location, one-hot previous action, previous reward.
            max_episode_steps: Episodes are truncated after this many steps.

        Raises:
            DistillError: An option's value is not allowed.
        """
        check_number("num_envs", num_envs, least=1, integer=True)
        check_number("max_episode_steps", max_episode_steps, least=1, integer=True)
        check_number("slip", slip, least=0, most=1)
        check_choice("observation", observation, get_args(Observation))
        self.map = TwoRoomsMap(room_height, room_width, corridor_length, goal, task)
        self.slip = slip
        self.max_episode_steps = max_episode_steps

        # An observation depends on nothing but the state, so steps look it up in this table.
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

    @override
    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[Any], dict[str, Any]]:
        """Starts a new episode for every agent.

        Args:
            seed: Seed of the one random generator that all agents share, so that an agent's episodes depend
                on `num_envs`. Several seeds are combined into one. None, alone or among them, keeps the
                random state.
            options: Not used.
        """
        if isinstance(seed, Sequence):
            seed = None if None in seed else list(seed)
        if seed is not None:
            self._random = np.random.default_rng(seed)  # type: ignore[arg-type]  # no None among the seeds
        self._states[:] = self._draw_first_states(self.num_envs)
        self._elapsed_steps[:] = 0
        return self._observe(), {}

    @override
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
        # Indices are always in range; mode="clip" is set since the default mode buffers its writes to `out`.
        return self._table.take(self._states, axis=0, out=self._observations, mode="clip")

    def picture(self, index: int) -> NDArray[np.uint8]:
        """Draws agent `index` in its rooms, `(height, width, 3)` uint8: walls, free cells, goal and agent."""
        cells = np.full((*np.add(self.map.free.shape, 2), 3), _WALL, np.uint8)
        inner = cells[1:-1, 1:-1]  # a view of the array without the outer walls
        inner[self.map.free] = _FREE
        inner[tuple(self.map.locations[self.map.goal_cell])] = _GOAL
        inner[tuple(self.map.locations[self.map.cells_of(self._states[index])])] = _AGENT
        return cells.repeat(_CELL_PIXELS, axis=0).repeat(_CELL_PIXELS, axis=1)


class TwoRoomsEnv(gym.Env[NDArray[Any], Any]):
    """One agent in the two rooms, with the options of `TwoRoomsVectorEnv` except `num_envs`."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 8}  # noqa: RUF012  # gymnasium's own convention

    def __init__(self, *, render_mode: str | None = None, **options: Any) -> None:
        """Builds the rooms.

        Args:
            render_mode: None, or `"rgb_array"`.
            options: The options of `TwoRoomsVectorEnv`.

        Raises:
            DistillError: An option's value is not allowed.
        """
        check_render_mode(render_mode)
        self.render_mode = render_mode
        self._rooms = TwoRoomsVectorEnv(1, **options)
        self.map = self._rooms.map
        self.observation_space = self._rooms.single_observation_space
        self.action_space = self._rooms.single_action_space

    def get_action_meanings(self) -> list[str]:
        """Returns the actions' names."""
        return list(ACTION_MEANINGS)

    @override
    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[Any], dict[str, Any]]:
        super().reset(seed=seed)
        observations, infos = self._rooms.reset(seed=seed)
        return observations[0].copy(), infos

    @override
    def step(self, action: Any) -> tuple[NDArray[Any], float, bool, bool, dict[str, Any]]:
        observations, rewards, terminations, truncations, infos = self._rooms.step(np.array([action]))
        last = infos["final_obs"][0] if infos else observations[0]
        return last.copy(), float(rewards[0]), bool(terminations[0]), bool(truncations[0]), {}

    @override
    def render(self) -> Any:
        """Returns a picture of agent and rooms, `(height, width, 3)` uint8; None without a render mode."""
        return None if self.render_mode is None else self._rooms.picture(0)


def optimal_return(rooms: TwoRoomsMap, *, slip: float = 0.0, max_episode_steps: int = 100) -> float:
    """Returns the optimal policy's expected undiscounted return per episode, averaged over all starts.

    Args:
        rooms: The rooms and the goal.
        slip: Probability in [0, 1] that a step goes in a direction drawn uniformly.
        max_episode_steps: Episodes are truncated after this many steps.
    """
    values = optimal_values(rooms, slip=slip, max_episode_steps=max_episode_steps)
    return float(values[rooms.start_cells].mean())


def optimal_values(
    rooms: TwoRoomsMap, *, slip: float = 0.0, max_episode_steps: int = 100
) -> NDArray[np.float64]:
    """Computes the optimal values by value iteration, one iteration per step of an episode.

    V_0 = 0;  V_k+1(c) = max_a (1 - slip) Q_k(c, a) + slip mean_b Q_k(c, b);  Q_k(c, a) = R + V_k(c')
    After as many iterations as an episode has steps, they are exact for truncated episodes, too.

    Args:
        rooms: The rooms and the goal.
        slip: Probability in [0, 1] that a step goes in a direction drawn uniformly.
        max_episode_steps: Episodes are truncated after this many steps.

    Returns:
        `(cells,)`: the expected undiscounted return from each cell; 0 at the goal, where episodes end.
    """
    actions = np.arange(len(ACTION_MEANINGS))
    starts = rooms.first_states(np.arange(rooms.num_cells))[:, None]
    reached = rooms.next_states(starts, actions, directions=actions)
    rewards, next_cells = rooms.rewards[reached], rooms.cells_of(reached)  # both (cells, 4)
    values = np.zeros(rooms.num_cells)
    for _ in range(max_episode_steps):
        action_values = rewards + values[next_cells]
        values = (1 - slip) * action_values.max(axis=1) + slip * action_values.mean(axis=1)
        values[rooms.goal_cell] = 0.0
    return values
