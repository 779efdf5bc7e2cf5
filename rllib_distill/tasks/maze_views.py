"""What an agent sees in a maze: egocentric views, worked out once for every place."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from rllib_distill.tasks.maze_layout import STEPS, MazeLayout

WALL, APPLE, GOAL = range(3)
"""Channels of a view."""


def seen_locations(layout: MazeLayout, view: int) -> NDArray[np.int64]:
    """Which locations the cells of a view are, for every free cell and heading.

    The agent stands in the middle of the view's last row, and ahead of it is the row above.

    Returns:
        `(cells, 4, view, view, 2)` rows and columns; outside of the maze too.
    """
    ahead = np.arange(view - 1, -1, -1)[:, None, None]  # of a view's rows
    aside = np.arange(view)[:, None] - view // 2  # of a view's columns, to the right
    to_the_right = np.roll(STEPS, -1, axis=0)
    offsets = ahead * STEPS[:, None, None] + aside * to_the_right[:, None, None]  # (4, view, view, 2)
    seen: NDArray[np.int64] = layout.locations[:, None, None, None] + offsets
    return seen


def fixed_views(layout: MazeLayout, view: int) -> NDArray[np.bool_]:
    """Walls and goal as seen from everywhere, `(cells * 4, view, view, 3)`; no apples. Outside are walls."""
    is_wall = _seen(layout.walls, layout, view, outside=True)
    views = np.zeros((*is_wall.shape, 3), np.bool_)
    views[..., WALL] = is_wall
    views[..., GOAL] = _seen(layout.cell_at == layout.goal_cell, layout, view, outside=False)
    return views


def apple_views(layout: MazeLayout, view: int) -> NDArray[np.int64]:
    """Which apple's place is seen where, `(cells * 4, view, view)`: 1 is the first apple, 0 is none."""
    numbers = np.zeros((layout.size, layout.size), np.int64)
    numbers[tuple(layout.locations[layout.apple_cells].T)] = 1 + np.arange(layout.apples)
    return _seen(numbers, layout, view, outside=0)


def _seen(world: NDArray[Any], layout: MazeLayout, view: int, *, outside: int) -> NDArray[Any]:
    padded = np.pad(world, view, constant_values=outside)
    rows, columns = np.moveaxis(seen_locations(layout, view) + view, -1, 0)
    seen: NDArray[Any] = padded[rows, columns].reshape(-1, view, view)
    return seen
