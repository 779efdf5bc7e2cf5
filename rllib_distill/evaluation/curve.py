"""A curve over env steps, straight between its points and level outside of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

_WINDOW = 5  # points


@dataclass(frozen=True, eq=False)
class Curve:
    """Mean returns.

    Attributes:
        steps: `(n,)` float64, n >= 1, ascending: env steps of all tasks together.
        values: `(n,)` float64, the mean return at each.
    """

    steps: NDArray[np.float64]
    values: NDArray[np.float64]

    @property
    def end(self) -> float:
        """The last step."""
        return float(self.steps[-1])

    def at(self, steps: NDArray[Any]) -> NDArray[np.float64]:
        """Values at any steps, of the same shape."""
        return np.interp(steps, self.steps, self.values)

    def mean(self, start: float, end: float) -> float:
        """Mean over the steps from `start` to `end` > `start`: the area under the curve, over its width."""
        inside = self.steps[(self.steps > start) & (self.steps < end)]
        steps = np.concatenate([[start], inside, [end]])
        return float(np.trapezoid(self.at(steps), steps) / (end - start))

    def first_reach(self, level: float, end: float) -> float:
        """When the curve first is at a level or above.

        Args:
            level: Its mean over 5 points in a row (all, if there are fewer) must be at least that.
            end: The last step that counts.

        Returns:
            The step of the last of those points; infinity where there are none.
        """
        width = min(_WINDOW, len(self.values))
        means = np.lib.stride_tricks.sliding_window_view(self.values, width).mean(axis=1)
        steps = self.steps[width - 1 :]
        reached = steps[(means >= level) & (steps <= end)]
        return float(reached[0]) if len(reached) else np.inf


def mean_of_curves(curves: Sequence[Curve]) -> Curve:
    """The mean of at least one curve, with the points of all of them."""
    steps = np.unique(np.concatenate([curve.steps for curve in curves]))
    return Curve(steps, np.mean([curve.at(steps) for curve in curves], axis=0))
