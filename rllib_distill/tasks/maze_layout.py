"""Mazes as arrays of walls, and pictures of them."""

from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rllib_distill.errors import DistillError, check_number

MAX_SIZE = 51  # bounds what the tables of views take
STEPS = np.array([[-1, 0], [0, 1], [1, 0], [0, -1]])  # (row, column) of each heading: up, right, down, left

_SHARE_OF_LOOPS = 0.3  # of the walls that are left between neighbouring rooms, opened again
_MAZE_SEED = 1707_04175  # with task and size: of all that is drawn; any number would do


def check_odd(name: str, value: Any, *, least: int, most: int) -> None:
    """Raises DistillError unless `value` is an odd integer within its bounds."""
    check_number(name, value, least=least, most=most, integer=True)
    if value % 2 == 0:
        raise DistillError(f"{name} is {value!r}; it must be odd.")


@dataclass(frozen=True)
class MazeLayout:
    """One maze; all tasks of a size have other walls, another goal and other apples.

    Rooms of one cell lie at odd rows and columns. A depth-first walk joins them by corridors, so that every
    free cell can be reached, and then some walls are opened again, so that there are loops. Walls and goal do
    not depend on `apples`, and the first apples are the same however many there are.

    Attributes:
        task: which maze, any number from 0.
        size: cells per side, the outer walls included.
        apples: how many apples there are.

    Raises:
        DistillError: an option's value is not allowed.
    """

    task: int
    size: int
    apples: int

    def __post_init__(self) -> None:
        check_number("task", self.task, least=0, integer=True)
        check_odd("size", self.size, least=5, most=MAX_SIZE)
        most_apples = self.num_cells - 2  # one cell is for the goal, one to start in
        check_number("apples", self.apples, least=0, most=most_apples, integer=True)

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


TILE = 24  # pixels of a cell's side

_SAMPLES = 4  # per pixel and axis, so that slanted edges are smooth
_WALL, _WALL_FRONT, _FLOOR, _LINE = (52, 58, 74), (84, 92, 112), (242, 238, 228), (228, 223, 211)
_APPLE, _STALK, _SHINE = (206, 54, 48), (94, 66, 40), (244, 150, 140)
_GOAL, _GOAL_RIM, _AGENT, _AGENT_RIM = (250, 200, 50), (205, 145, 20), (46, 108, 200), (20, 56, 120)
_UNSEEN_LIGHT = 0.62

_Layer = tuple[NDArray[np.float64], tuple[int, int, int]]  # how much of each pixel of a tile, and its colour
_Sprite = tuple[_Layer, ...]  # from below to above


def draw_maze(
    layout: MazeLayout,
    *,
    cell: int,
    heading: int,
    apple_cells: NDArray[np.int64],
    seen: NDArray[np.int64],
) -> NDArray[np.uint8]:
    """Draws the maze from above.

    Args:
        layout: the maze.
        cell: where the agent is.
        heading: 0 to 3: up, right, down, left.
        apple_cells: `(apples left,)`.
        seen: `(any, 2)` rows and columns that the agent sees; some may be outside of the maze.

    Returns:
        `(24 * size, 24 * size, 3)` uint8.
    """
    size = layout.size
    # (row, column, y, x, 3)
    tiles = np.where(layout.walls[..., None, None, None], _wall_tile(), _floor_tile())
    has_front = layout.walls & ~np.roll(layout.walls, -1, axis=0)
    tiles[has_front] = _wall_front_tile()
    _put(tiles, layout, layout.goal_cell, _goal_sprite())
    for apple_cell in apple_cells.tolist():
        _put(tiles, layout, apple_cell, _apple_sprite())
    _put(tiles, layout, cell, tuple((np.rot90(mask, -heading), ink) for mask, ink in _agent_sprite()))
    inside = seen[((seen >= 0) & (seen < size)).all(axis=1)]
    light = np.full((size, size, 1, 1, 1), _UNSEEN_LIGHT)
    light[tuple(inside.T)] = 1.0
    pixels = (tiles * light).swapaxes(1, 2).reshape(size * TILE, size * TILE, 3)
    picture: NDArray[np.uint8] = pixels.round().astype(np.uint8)
    return picture


def _put(tiles: NDArray[np.float64], layout: MazeLayout, cell: int, sprite: _Sprite) -> None:
    row, column = layout.locations[cell]
    for mask, colour in sprite:
        tiles[row, column] += mask[..., None] * (np.array(colour) - tiles[row, column])


@cache
def _wall_tile() -> NDArray[np.float64]:
    return np.full((TILE, TILE, 3), _WALL, np.float64)


@cache
def _wall_front_tile() -> NDArray[np.float64]:
    """The tile of a wall with floor below it, as if the light came from there."""
    tile = _wall_tile().copy()
    tile[-TILE // 4 :] = _WALL_FRONT
    return tile


@cache
def _floor_tile() -> NDArray[np.float64]:
    tile = np.full((TILE, TILE, 3), _FLOOR, np.float64)
    tile[0] = tile[:, 0] = _LINE
    return tile


@cache
def _goal_sprite() -> _Sprite:
    """A star with five points."""
    x, y = _grid()
    notch, notch_radius = np.pi / 5, 0.45  # points are at radius 1
    angle = np.abs((np.arctan2(x, -y) + notch) % (2 * notch) - notch)  # to the nearest point
    # The straight edge from a point to the next notch, in polar coordinates.
    rise, run = notch_radius * np.sin(notch), 1 - notch_radius * np.cos(notch)
    edge = rise / (run * np.sin(angle) + rise * np.cos(angle))
    radius = np.hypot(x, y)
    return ((_smooth(radius < 0.95 * edge), _GOAL_RIM), (_smooth(radius < 0.78 * edge), _GOAL))


@cache
def _apple_sprite() -> _Sprite:
    x, y = _grid()
    stalk = (np.abs(x - 0.1 * (y + 0.2)) < 0.07) & (y > -0.7) & (y < -0.2)
    return (
        (_smooth(np.hypot(x, (y - 0.12) * 1.08) < 0.5), _APPLE),
        (_smooth(stalk), _STALK),
        (_smooth(np.hypot(x + 0.2, y + 0.08) < 0.11), _SHINE),
    )


@cache
def _agent_sprite() -> _Sprite:
    """An arrowhead that points up."""
    x, y = _grid()
    return ((_smooth(_arrow(x, y, 0.0)), _AGENT_RIM), (_smooth(_arrow(x, y, 0.12)), _AGENT))


def _arrow(x: NDArray[np.float64], y: NDArray[np.float64], inset: float) -> NDArray[np.bool_]:
    sides = 2.2 * np.abs(x) < y + 0.85 - 2.4 * inset
    return sides & (y < 0.7 - inset - 0.45 * (0.7 - np.abs(x)))


def _grid() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Points of a tile: x to the right and y down, from -1 to 1, `_SAMPLES` to a pixel's side."""
    line = (np.arange(TILE * _SAMPLES) + 0.5) / (TILE * _SAMPLES / 2) - 1
    x, y = np.meshgrid(line, line)
    return x, y


def _smooth(mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """`(TILE, TILE)`: the share of each pixel that is inside."""
    shares: NDArray[np.float64] = mask.reshape(TILE, _SAMPLES, TILE, _SAMPLES).mean(axis=(1, 3))
    return shares
