"""The layout of mazes: walls, goal and apples, and pictures of them."""

from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rllib_distill.errors import DistillError, check_number

MAX_SIZE = 51  # bounds the memory of the tables of views
STEPS = np.array([[-1, 0], [0, 1], [1, 0], [0, -1]])  # (row, column) of each heading: up, right, down, left

_SHARE_OF_LOOPS = 0.3  # share of the remaining walls between neighbouring rooms that are opened to make loops
_MAZE_SEED = 1707_04175  # seeds a maze together with its task and size; the number itself has no meaning


def check_odd(name: str, value: Any, *, least: int, most: int) -> None:
    """Raises DistillError unless `value` is an odd integer within its bounds."""
    check_number(name, value, least=least, most=most, integer=True)
    if value % 2 == 0:
        raise DistillError(f"{name} is {value!r}; it must be odd.")


@dataclass(frozen=True)
class MazeLayout:
    """One maze; each task has its own walls, goal and apples.

    Rooms of one cell lie at odd rows and columns. A random depth-first search joins them by corridors, so
    that every free cell can be reached; then some walls are opened to make loops. Walls and goal do not
    depend on `apples`, and the first apples are the same however many there are.

    Attributes:
        task: Number of the maze, from 0.
        size: Cells per side, including the outer walls; odd, 5 to 51.
        apples: Number of apples.

    Raises:
        DistillError: An option's value is not allowed.
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
        """`(size, size)`: where there are walls."""
        return _dig(self.size, np.random.default_rng([_MAZE_SEED, self.task, self.size]))

    @cached_property
    def locations(self) -> NDArray[np.int64]:
        """`(cells, 2)`: row and column of every free cell; cells are numbered in this order, row by row."""
        return np.argwhere(~self.walls)

    @property
    def num_cells(self) -> int:
        """The number of free cells."""
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
        """The number of the goal's cell."""
        return int(self._in_random_order[0])

    @property
    def apple_cells(self) -> NDArray[np.int64]:
        """`(apples,)`: the numbers of the apples' cells."""
        return self._in_random_order[1 : 1 + self.apples]

    @property
    def start_cells(self) -> NDArray[np.int64]:
        """`(cells - 1 - apples,)`: the free cells without the goal or an apple, where agents may start."""
        return np.sort(self._in_random_order[1 + self.apples :])

    @cached_property
    def next_cells(self) -> NDArray[np.int64]:
        """`(cells, 4)`: the cell to which a step in each heading leads; the same cell if there is a wall."""
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

_SAMPLES = 4  # points per pixel and axis, which make slanted edges smooth
_WALL, _WALL_FRONT, _FLOOR, _LINE = (52, 58, 74), (84, 92, 112), (242, 238, 228), (228, 223, 211)
_APPLE, _STALK, _SHINE = (206, 54, 48), (94, 66, 40), (244, 150, 140)
_GOAL, _GOAL_RIM, _AGENT, _AGENT_RIM = (250, 200, 50), (205, 145, 20), (46, 108, 200), (20, 56, 120)
_UNSEEN_LIGHT = 0.62

_Layer = tuple[NDArray[np.float64], tuple[int, int, int]]  # (TILE, TILE) covered shares of pixels, and colour
_Sprite = tuple[_Layer, ...]  # from bottom to top


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
        layout: The maze.
        cell: The number of the agent's cell.
        heading: The agent's heading: 0 up, 1 right, 2 down, 3 left.
        apple_cells: `(n,)` numbers of the cells that still have apples.
        seen: `(m, 2)` rows and columns that the agent sees, drawn brighter; some may be outside of the maze.

    Returns:
        A picture, `(24 * size, 24 * size, 3)` uint8.
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
    """A wall that has floor below it, with a lighter lower edge."""
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
    """The points of a tile, `_SAMPLES` per pixel and axis: x to the right and y down, from -1 to 1."""
    line = (np.arange(TILE * _SAMPLES) + 0.5) / (TILE * _SAMPLES / 2) - 1
    x, y = np.meshgrid(line, line)
    return x, y


def _smooth(mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """`(TILE, TILE)`: the share of each pixel's points that are inside of a shape."""
    shares: NDArray[np.float64] = mask.reshape(TILE, _SAMPLES, TILE, _SAMPLES).mean(axis=(1, 3))
    return shares
