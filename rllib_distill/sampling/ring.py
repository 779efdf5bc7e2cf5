"""A time-major ring of one source's steps: every observation is stored once."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rllib_distill.errors import DistillError
from rllib_distill.sampling.fragment import Fragment, forget_frames_before_reset
from rllib_distill.sampling.packed import pack, unpack

_STEP_COLUMNS = ("actions", "rewards", "terminations", "truncations", "valid")


class Ring:
    """The last `rows` time steps of `B` environments that run side by side.

    Row `t`'s next observation is row `t + 1`, so a frame takes its memory once; stacks of frames are put
    together when they are drawn. The row at the head holds the newest observation, which no transition
    starts from yet. Where a fragment does not follow the one before (environments were reset, a runner was
    replaced, another learner got the one between), the head row is left behind as an invalid one, and the
    older frames of the fragment's first stacks come before it as invalid rows.
    """

    def __init__(self, rows: int, like: Mapping[str, NDArray[Any]], frame_stack: int = 1):
        """Allocates the columns.

        Args:
            rows: Capacity in time steps; holds `(rows - frame_stack) * B` transitions.
            like: Column -> an array `(any number of rows, B, ...)` of its shape and dtype.
            frame_stack: Frames in an observation, `k`.
        """
        self.rows = rows
        self.frame_stack = frame_stack
        self.num_envs = int(like["actions"].shape[1])
        self.head = 0  # time index of the newest observation on this ring's own clock
        self._next_start: int | None = None
        self._columns = {
            name: np.zeros((rows, *column.shape[1:]), column.dtype) for name, column in like.items()
        }
        self._final_observations: dict[int, NDArray[Any]] = {}

    @classmethod
    def for_fragments(cls, num_transitions: int, fragment: Fragment) -> "Ring":
        """A ring for fragments of this one's shapes, dtypes and labels.

        Args:
            num_transitions: That it can hold, rounded up to whole rows: a memory that held a little less than
                it was asked to could never be full enough.
            fragment: The first that will come.
        """
        return cls(_num_rows(num_transitions, fragment), _columns(fragment), fragment.frame_stack)

    def fits(self, num_transitions: int, fragment: Fragment) -> bool:
        """Whether `for_fragments` would make a ring like this one."""
        like = _columns(fragment)
        return (
            self.rows == _num_rows(num_transitions, fragment)
            and self.frame_stack == fragment.frame_stack
            and self._columns.keys() == like.keys()
            and all(column.shape[1:] == like[name].shape[1:] for name, column in self._columns.items())
            and all(column.dtype == like[name].dtype for name, column in self._columns.items())
        )

    def __len__(self) -> int:
        """Number of rows that transitions may start from, valid or not, times environments."""
        return min(self.head, self.rows - self.frame_stack) * self.num_envs

    @property
    def observation_shape(self) -> tuple[int, ...]:
        """Of one observation."""
        frame_shape = tuple(self._columns["frames"].shape[2:])
        return frame_shape if self.frame_stack == 1 else (*frame_shape, self.frame_stack)

    def add(self, fragment: Fragment) -> None:
        """Appends a fragment; one longer than the ring leaves its last rows."""
        if fragment.start != self._next_start:
            self._begin_anew(fragment)
        self._next_start = fragment.start + len(fragment)
        skipped = max(0, len(fragment) - (self.rows - 1))
        for steps, rows in _segments(skipped, len(fragment), self.head, self.rows):
            self._forget_final_observations(rows)
            for name, column in _columns(fragment).items():
                self._columns[name][rows] = column[steps]
        for (t, b), observation in fragment.final_observations.items():
            if t >= skipped:
                row = (self.head + t) % self.rows
                self._final_observations[row * self.num_envs + b] = observation
        self.head += len(fragment)
        newest = self.head % self.rows
        self._columns["frames"][newest] = fragment.frames[-1]
        self._columns["ages"][newest] = fragment.ages[-1]
        self._columns["valid"][newest] = False

    def _begin_anew(self, fragment: Fragment) -> None:
        if self._next_start is not None:
            self.head += 1  # the newest observation's row, which no transition starts from, stays so
        for frame in fragment.frames[: self.frame_stack - 1]:
            row = self.head % self.rows
            self._forget_final_observations(slice(row, row + 1))
            self._columns["frames"][row] = frame
            self._columns["valid"][row] = False
            self.head += 1

    def draw(self, size: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """Uniformly drawn valid transitions, with replacement, as `(size,)` flat indices (row * B + env).

        Raises:
            ValueError: There is none.
        """
        valid = self._flat("valid")
        drawn = self._draw_any(size, rng)
        while (bad := ~valid[drawn]).any():
            if not valid.any():
                raise ValueError("A replay memory of autoreset rows alone has nothing to draw.")
            drawn[bad] = self._draw_any(int(bad.sum()), rng)
        return drawn

    def take(self, name: str, index: NDArray[np.int64], out: NDArray[Any] | None = None) -> NDArray[Any]:
        """Column `name` at flat indices, `(size, ...)`; so are `observations` and `next_observations`."""
        if name == "observations":
            return self._observations(index, out)
        if name != "next_observations":
            return np.take(self._flat(name), index, axis=0, out=out, mode="clip")
        taken = self._observations(self._after(index), out)
        if self._final_observations:
            for i in np.flatnonzero(self._flat("truncations")[index]):
                final = self._final_observations.get(int(index[i]))
                if final is not None:  # None in NEXT_STEP autoreset mode: the next row is the final one
                    taken[i] = final
        return taken

    def take_n_step(
        self, index: NDArray[np.int64], n_step: int, gamma: float
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int64]]:
        """Returns over at most `n_step` steps (Sutton, 1988), fewer where an episode or what is known ends.

        Args:
            index: `(size,)` flat indices of first transitions.
            n_step: At least 1.
            gamma: Discount factor.

        Returns:
            Discounted sums of rewards; the discounts of the value that comes after, 0 after a terminal state;
            the flat indices of the last transitions, whose next observations have that value.
        """
        valid, rewards = self._flat("valid"), self._flat("rewards")
        terminations, truncations = self._flat("terminations"), self._flat("truncations")
        last, returns = index.copy(), rewards[index]
        discounts = np.full(len(index), gamma, np.float32)
        for _ in range(n_step - 1):
            following = self._after(last)
            # An invalid row after a step that did not end an episode is the head, or was it once.
            goes_on = ~(terminations[last] | truncations[last]) & valid[following]
            returns += np.where(goes_on, discounts * rewards[following], 0.0).astype(np.float32)
            discounts = np.where(goes_on, discounts * np.float32(gamma), discounts)
            last = np.where(goes_on, following, last)
        discounts[terminations[last]] = 0.0
        return returns, discounts, last

    def _after(self, index: NDArray[np.int64]) -> NDArray[np.int64]:
        return (index + self.num_envs) % (self.rows * self.num_envs)

    def _observations(self, index: NDArray[np.int64], out: NDArray[Any] | None) -> NDArray[Any]:
        frames = self._flat("frames")
        if self.frame_stack == 1:
            return np.take(frames, index, axis=0, out=out, mode="clip")
        back = np.arange(1 - self.frame_stack, 1) * self.num_envs
        # Stacks lie frame by frame in memory, however the caller sees them: each is k copies of whole frames.
        into = None if out is None else np.moveaxis(out, -1, 1)
        stacks = np.take(frames, index[:, None] + back, axis=0, out=into, mode="wrap")
        forget_frames_before_reset(stacks, self._flat("ages")[index])
        return np.moveaxis(stacks, 1, -1)

    def get_state(self) -> dict[str, Any]:
        """Everything, bit for bit; boolean columns packed, 8 to a byte."""
        used = min(self.head + 1, self.rows)
        return {
            "rows": self.rows,
            "frame_stack": self.frame_stack,
            "head": self.head,
            "next_start": self._next_start,
            "columns": {name: pack(column[:used]) for name, column in self._columns.items()},
            "final_observations": self._final_observations,
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> "Ring":
        """The ring that `get_state` described."""
        if "frame_stack" not in state:
            raise DistillError(
                "This replay memory was saved by an older version of rllib_distill. "
                "Delete the checkpoint's folder 'replay' to go on with an empty one."
            )
        columns = {name: unpack(packed) for name, packed in state["columns"].items()}
        ring = cls(state["rows"], columns, state["frame_stack"])
        ring.head = state["head"]
        ring._next_start = state["next_start"]
        for name, column in columns.items():
            if len(column) == ring.rows:
                ring._columns[name] = column  # no copy: it may be gigabytes
            else:
                ring._columns[name][: len(column)] = column
        ring._final_observations = dict(state["final_observations"])
        return ring

    def _draw_any(self, size: int, rng: np.random.Generator) -> NDArray[np.int64]:
        oldest = max(0, self.head - (self.rows - self.frame_stack)) * self.num_envs
        index: NDArray[np.int64] = oldest + rng.integers(0, len(self), size)
        return index % (self.rows * self.num_envs)

    def _flat(self, name: str) -> NDArray[Any]:
        column = self._columns[name]
        return column.reshape(self.rows * self.num_envs, *column.shape[2:])

    def _forget_final_observations(self, overwritten: slice) -> None:
        if self._final_observations:
            rows = range(overwritten.start, overwritten.stop)
            self._final_observations = {
                index: observation
                for index, observation in self._final_observations.items()
                if index // self.num_envs not in rows
            }


def _segments(first: int, last: int, head: int, rows: int) -> Iterator[tuple[slice, slice]]:
    """Steps `first` to `last` and the rows that they go to, in runs without a wrap: slices copy fastest."""
    while first < last:
        row = (head + first) % rows
        length = min(last - first, rows - row)
        yield slice(first, first + length), slice(row, row + length)
        first += length


def _num_rows(num_transitions: int, fragment: Fragment) -> int:
    return -(-num_transitions // int(fragment.actions.shape[1])) + fragment.frame_stack


def _columns(fragment: Fragment) -> dict[str, NDArray[Any]]:
    steps = {name: getattr(fragment, name) for name in _STEP_COLUMNS}
    frames = {"frames": fragment.frames[fragment.frame_stack - 1 : -1], "ages": fragment.ages[:-1]}
    return {**frames, **steps, **fragment.labels}
