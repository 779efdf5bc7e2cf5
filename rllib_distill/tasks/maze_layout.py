"""The walls, the goal and the apples of one maze task."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from rllib_distill.tasks.options import check_whole_number

MAX_SIZE = 51  # bounds what the tables of views take
STEPS = np.array([[-1, 0], [0, 1], [1, 0], [0, -1]])  # (row, column) of each heading: up, right, down, left

_SHARE_OF_LOOPS = 0.3  # of the walls that are left between neighbouring rooms, opened again
_MAZE_SEED = 1707_04175  # with task and size: of all that is drawn; any number would do


@dataclass(frozen=True)
class MazeLayout:
    """One maze; all tasks of a size have other walls, another goal and other apples.

    Rooms of one cell lie at odd rows and columns. A depth-first walk joins them by corridors, so that every
    free cell can be reached, and then some walls are opened again, so that there are loops. Walls and goal do
    not depend on `apples`, and the first apples are the same however many there are.

    Attributes:
        task: which maze.
        size: cells per side, the outer walls included.
        apples: how many.

    Raises:
        DistillError: an option's value is not allowed.
    """

    task: int
    size: int
    apples: int

    def __post_init__(self) -> None:
        check_whole_number("task", self.task, at_least=0)
        check_whole_number("size", self.size, at_least=5, at_most=MAX_SIZE, odd=True)
        most_apples = self.num_cells - 2  # one cell is for the goal, one to start in
        check_whole_number("apples", self.apples, at_least=0, at_most=most_apples)

    @cached_property
    def walls(self) -> NDArray[np.bool_]:
        """`(size, size)`: where nobody can walk."""
        return _dig(self.size, np.random.default_rng([_MAZE_SEED, self.task, self.size]))

    @cached_property
    def locations(self) -> NDArray[np.int64]:
        """`(cells, 2)`: row and column of every free cell; cells are numbered in this order, row by row."""
        return np.argwhere(~self.walls)

    @property
    def num_cells(self) -> int:
        """How many cells are free."""
        return len(self.locations)

    @cached_property
    def cell_at(self) -> NDArray[np.int64]:
        """`(size, size)`: the number of the free cell there; -1 at walls."""
        numbers = np.full((self.size, self.size), -1)
        numbers[~self.walls] = np.arange(self.num_cells)
        return numbers

    @cached_property
    def _in_random_order(self) -> NDArray[np.int64]:
        return np.random.default_rng([_MAZE_SEED, self.task, self.size, 1]).permutation(self.num_cells)

    @property
    def goal_cell(self) -> int:
        """The goal's cell."""
        return int(self._in_random_order[0])

    @property
    def apple_cells(self) -> NDArray[np.int64]:
        """`(apples,)`: the apples' cells."""
        return self._in_random_order[1 : 1 + self.apples]

    @property
    def start_cells(self) -> NDArray[np.int64]:
        """`(cells - 1 - apples,)`: free cells without goal and apple."""
        return np.sort(self._in_random_order[1 + self.apples :])

    @cached_property
    def next_cells(self) -> NDArray[np.int64]:
        """`(cells, 4)`: where a step in each heading leads; into a wall: to the cell itself."""
        rows, columns = (self.locations[:, None] + STEPS).transpose(2, 0, 1)
        reached = self.cell_at[rows, columns]
        return np.where(reached < 0, np.arange(self.num_cells)[:, None], reached)


def _dig(size: int, random: np.random.Generator) -> NDArray[np.bool_]:
    walls = np.ones((size, size), np.bool_)
    row, column = (int(number) for number in 1 + 2 * random.integers(size // 2, size=2))
    walls[row, column] = False
    path = [(row, column)]
    while path:
        row, column = path[-1]
        closed = [
            step
            for step in _steps_to_neighbours(row, column, size)
            if walls[row + 2 * step[0], column + 2 * step[1]]
        ]
        if not closed:
            path.pop()
            continue
        row_step, column_step = closed[random.integers(len(closed))]
        walls[row + row_step, column + column_step] = False
        path.append((row + 2 * row_step, column + 2 * column_step))
        walls[path[-1]] = False
    between_rooms = np.add.outer(np.arange(size), np.arange(size)) % 2 == 1
    between_rooms[[0, -1]] = between_rooms[:, [0, -1]] = False
    left = np.argwhere(walls & between_rooms)
    opened = random.permutation(left)[: round(_SHARE_OF_LOOPS * len(left))]
    walls[opened[:, 0], opened[:, 1]] = False
    return walls


def _steps_to_neighbours(row: int, column: int, size: int) -> list[tuple[int, int]]:
    steps = [(int(row_step), int(column_step)) for row_step, column_step in STEPS]
    return [step for step in steps if 0 < row + 2 * step[0] < size and 0 < column + 2 * step[1] < size]
