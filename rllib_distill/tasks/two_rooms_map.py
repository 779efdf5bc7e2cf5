"""The two rooms of Distral's gridworld (Teh et al., 2017): cells, states and what each step leads to."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from rllib_distill.errors import DistillError
from rllib_distill.tasks.options import check_whole_number

ACTION_MEANINGS = ("UP", "RIGHT", "DOWN", "LEFT")
STEP_REWARD, BUMP_REWARD, GOAL_REWARD = -0.1, -0.6, 0.9  # every step costs 0.1, a bump 0.5 more; the goal: +1

_MOVES = np.array([[-1, 0], [0, 1], [1, 0], [0, -1]])  # (row, column) of each action
# What happened before: nothing yet (0), action a moved the agent (1 + a) or made it bump (1 + 4 + a).
_HISTORIES = 1 + 2 * len(_MOVES)
_GOAL_SEED = 170704175  # of the order in which tasks get their goals: the paper's arXiv number


@dataclass(frozen=True)
class TwoRoomsMap:
    """Two rooms side by side, joined by a corridor of one cell's height in their middle row.

    Free cells are numbered row by row. A state is the location, the previous action and the previous reward,
    as in the paper; `num_states` = cells * 9, since an episode's first state has no previous action and each
    of the four actions either moved the agent or made it bump. A slip may make the agent move in another
    direction than the previous action says.

    Attributes:
        room_height: rows of each room.
        room_width: columns of each room.
        corridor_length: columns between the rooms.
        goal: a cell's number or `[row, column]`; None: the goal of `task`.
        task: picks the goal if none is given. Even tasks have theirs in the left room, odd ones in the right
            one, and no two have the same one as long as there are cells left.

    Raises:
        DistillError: a size below 1, a task below 0, or a goal that is no free cell.
    """

    room_height: int
    room_width: int
    corridor_length: int
    goal: int | Sequence[int] | None = None
    task: int = 0

    def __post_init__(self) -> None:
        for option in ("room_height", "room_width", "corridor_length"):
            check_whole_number(option, getattr(self, option), at_least=1)
        check_whole_number("task", self.task, at_least=0)
        _ = self.goal_cell  # so that a wrong goal is found here

    @cached_property
    def free(self) -> NDArray[np.bool_]:
        """`(room_height, 2 * room_width + corridor_length)`, where there is no wall."""
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
        """How many cells are free."""
        return len(self.locations)

    @property
    def num_states(self) -> int:
        """How many states (location, previous action, previous reward) there are."""
        return self.num_cells * _HISTORIES

    @cached_property
    def next_cells(self) -> NDArray[np.int64]:
        """`(cells, 4)`: where an action leads from a cell; into a wall: to the cell itself."""
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
        """Where episodes start: all free cells but the goal."""
        return np.delete(np.arange(self.num_cells), self.goal_cell)

    def first_states(self, cells: NDArray[np.int64]) -> NDArray[np.int64]:
        """The states of episodes that start in `cells`, of any shape."""
        return cells * _HISTORIES

    def cells_of(self, states: NDArray[np.int64]) -> NDArray[np.int64]:
        """The cells' numbers in `states`, of any shape."""
        return states // _HISTORIES

    def next_states(
        self, states: NDArray[np.int64], actions: NDArray[np.int64], directions: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """The states after one step, of the arguments' common shape.

        Args:
            states: before the step.
            actions: what the agent chose, which the next state remembers.
            directions: where it went, in the actions' order; unlike the actions if it slipped.
        """
        cells = self.cells_of(states)
        reached = self.next_cells[cells, directions]
        bumps = len(_MOVES) * (reached == cells)
        return np.asarray(reached * _HISTORIES + 1 + actions + bumps)

    @cached_property
    def rewards(self) -> NDArray[np.float32]:
        """`(num_states,)`: of the step that led to a state; 0 for first states. A state tells its reward."""
        rewards = np.empty((self.num_cells, _HISTORIES), np.float32)
        rewards[:, 0] = 0.0
        rewards[:, 1 : 1 + len(_MOVES)] = STEP_REWARD
        rewards[:, 1 + len(_MOVES) :] = BUMP_REWARD
        rewards[self.goal_cell, 1:] = GOAL_REWARD
        return rewards.reshape(-1)

    @cached_property
    def at_goal(self) -> NDArray[np.bool_]:
        """`(num_states,)`: whether the episode is over."""
        return np.repeat(np.arange(self.num_cells) == self.goal_cell, _HISTORIES)

    def one_hot_states(self) -> NDArray[np.bool_]:
        """`(num_states, num_states)`: a state as a table needs it."""
        return np.eye(self.num_states, dtype=np.bool_)

    def features(self) -> NDArray[np.float32]:
        """`(num_states, cells + 4 + 1)`: location and previous action, both one-hot, and previous reward."""
        cells, histories = np.divmod(np.arange(self.num_states), _HISTORIES)
        actions = (histories - 1) % len(_MOVES)
        previous_action = np.eye(len(_MOVES), dtype=np.float32)[actions] * (histories > 0)[:, None]
        location = np.eye(self.num_cells, dtype=np.float32)[cells]
        return np.concatenate([location, previous_action, self.rewards[:, None]], axis=1, dtype=np.float32)

    def corridor_states(self, previous_action: int) -> NDArray[np.int64]:
        """`(corridor_length,)`: the states in the corridor, left to right, to which an action has led.

        Args:
            previous_action: the action's index; the agent did not bump.
        """
        columns = self.locations[:, 1]
        in_corridor = (columns >= self.room_width) & (columns < self.room_width + self.corridor_length)
        return np.flatnonzero(in_corridor) * _HISTORIES + 1 + previous_action
