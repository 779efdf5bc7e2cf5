"""Replay buffers: rings of every task's steps, read as rows or as sequences."""

import logging
import pickle
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray

from rllib_distill.errors import DistillError
from rllib_distill.replay.batch import Trajectories
from rllib_distill.replay.fragment import Fragment, forget_frames_before_reset
from rllib_distill.tasks import SharedSpaces

Packed = tuple[NDArray[Any], tuple[int, ...] | None]
"""An array, and the shape that it had where it is bits now."""


def pack(column: NDArray[Any]) -> Packed:
    """Packs a boolean array, and leaves any other as it is."""
    return (np.packbits(column), column.shape) if column.dtype == np.bool_ else (column, None)


def unpack(packed: Packed) -> NDArray[Any]:
    """What `pack` was given."""
    array, shape = packed
    if shape is None:
        return array
    return np.unpackbits(array, count=int(np.prod(shape))).astype(np.bool_).reshape(shape)


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


_FIELDS = ("frames", "ages", "actions", "rewards", "terminations", "truncations", "valid")
_FIRST_BEGINS = "first_begins"


class SequenceRing:
    """The last sequences, which are the second axis of every column: `(time, capacity, ...)`.

    So what is drawn is copied step by step of time, as fragments have it. Recurrent states are not kept: by
    the time a sequence is drawn they are another network's.
    """

    def __init__(self, task: str, capacity: int, like: Mapping[str, NDArray[Any]], frame_stack: int = 1):
        """Allocates the columns.

        Args:
            task: Whose.
            capacity: In sequences.
            like: Column -> an array `(time, any number, ...)` of its shape and dtype.
            frame_stack: Frames in an observation.
        """
        self.task = task
        self.capacity = capacity
        self.frame_stack = frame_stack
        self._num_added = 0
        self._columns = {
            name: np.zeros((len(column), capacity, *column.shape[2:]), column.dtype)
            for name, column in like.items()
        }
        self._final_observations: dict[int, dict[int, NDArray[Any]]] = {}  # sequence -> t -> observation

    @classmethod
    def for_fragments(cls, num_transitions: int, fragment: Fragment) -> Self:
        """A ring for fragments of this one's sizes, dtypes and labels.

        Args:
            num_transitions: That it can hold, rounded up to whole sequences, and to one fragment at least.
            fragment: The first that will come.
        """
        capacity = _num_sequences(num_transitions, fragment)
        return cls(fragment.task, capacity, _sequence_columns(fragment), fragment.frame_stack)

    def fits(self, num_transitions: int, fragment: Fragment) -> bool:
        """Whether `for_fragments` would make a ring like this one."""
        like = _sequence_columns(fragment)
        return (
            self.capacity == _num_sequences(num_transitions, fragment)
            and self.frame_stack == fragment.frame_stack
            and self._columns.keys() == like.keys()
            and all(_is_alike(column, like[name]) for name, column in self._columns.items())
        )

    def __len__(self) -> int:
        """Number of sequences."""
        return min(self._num_added, self.capacity)

    @property
    def num_steps(self) -> int:
        """Of all sequences together, autoreset rows included."""
        return len(self) * len(self._columns["actions"])

    def add(self, fragment: Fragment) -> None:
        """Appends a fragment's sequences, over the oldest ones."""
        num_envs = fragment.actions.shape[1]
        index = (self._num_added + np.arange(num_envs)) % self.capacity
        for name, column in _sequence_columns(fragment).items():
            self._columns[name][:, index] = column
        if self._final_observations:
            for i in index.tolist():
                self._final_observations.pop(i, None)
        for (t, b), observation in fragment.final_observations.items():
            self._final_observations.setdefault(int(index[b]), {})[t] = observation
        self._num_added += num_envs

    def draw(self, size: int, rng: np.random.Generator) -> Fragment:
        """Sequences, drawn uniformly, side by side as if they had been played so; none twice if possible."""
        index = rng.choice(len(self), size, replace=size > len(self), shuffle=False)
        taken = {name: np.take(column, index, axis=1) for name, column in self._columns.items()}
        final_observations = {}
        if self._final_observations:
            for b, i in enumerate(index.tolist()):
                for t, observation in self._final_observations.get(i, {}).items():
                    final_observations[t, b] = observation
        return Fragment(
            task=self.task,
            source=0,
            start=0,
            frame_stack=self.frame_stack,
            **{name: taken.pop(name) for name in _FIELDS},
            first_begins=taken.pop(_FIRST_BEGINS)[0],
            final_observations=final_observations,
            labels=taken,
        )

    def get_state(self) -> dict[str, Any]:
        """Everything, bit for bit; boolean columns packed, 8 to a byte."""
        return {
            "task": self.task,
            "capacity": self.capacity,
            "frame_stack": self.frame_stack,
            "num_added": self._num_added,
            "columns": {name: pack(column[:, : len(self)]) for name, column in self._columns.items()},
            "final_observations": self._final_observations,
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """The ring that `get_state` described."""
        columns = {name: unpack(packed) for name, packed in state["columns"].items()}
        ring = cls(state["task"], state["capacity"], columns, state["frame_stack"])
        ring._num_added = state["num_added"]
        for name, column in columns.items():
            ring._columns[name][:, : len(ring)] = column
        ring._final_observations = dict(state["final_observations"])
        return ring


def _num_sequences(num_transitions: int, fragment: Fragment) -> int:
    return max(-(-num_transitions // len(fragment)), int(fragment.actions.shape[1]))


def _sequence_columns(fragment: Fragment) -> dict[str, NDArray[Any]]:
    """`(time, B, ...)` each, by name."""
    fields = {name: getattr(fragment, name) for name in _FIELDS}
    return {**fields, _FIRST_BEGINS: fragment.first_begins[None], **fragment.labels}


def _is_alike(column: NDArray[Any], other: NDArray[Any]) -> bool:
    """But for the number of sequences."""
    return (len(column), column.shape[2:], column.dtype) == (len(other), other.shape[2:], other.dtype)


logger = logging.getLogger(__name__)


class TaskReplay:
    """A ring per task and source of fragments; memory is taken when the first fragment comes.

    Actor-Mimic and Policy Distillation both keep one replay memory per game (Parisotto 2016, 100,000
    transitions; Rusu 2016, 540,000), so a task whose episodes are long cannot crowd out the others.
    """

    def __init__(
        self,
        tasks: Iterable[str],
        *,
        capacity: int,
        num_sources: int = 1,
        n_step: int = 1,
        gamma: float = 0.99,
        seed: int | None = None,
    ):
        """Makes an empty memory.

        Args:
            tasks: Names of the tasks.
            capacity: Transitions per task, shared equally by the sources.
            num_sources: How many env runners feed this memory.
            n_step: Steps of a return, see `Ring.take_n_step`.
            gamma: Its discount factor.
            seed: Of the sampling; None draws one.
        """
        self.capacity = capacity
        self._num_sources = num_sources
        self._n_step = n_step
        self._gamma = gamma
        self._rings: dict[str, dict[int, Ring]] = {task: {} for task in tasks}
        self._restored: dict[str, set[int]] = {task: set() for task in tasks}  # sources not heard of since
        self._rng = np.random.default_rng(seed)

    @property
    def tasks(self) -> tuple[str, ...]:
        """Names of the tasks."""
        return tuple(self._rings)

    def __len__(self) -> int:
        """Number of transitions of the task that has the fewest."""
        return min(self.num_transitions(task) for task in self._rings)

    def num_transitions(self, task: str) -> int:
        """Number of stored steps of a task (autoreset rows, which are never drawn, count too)."""
        return sum(map(len, self._rings[task].values()))

    def observation_shape(self, task: str) -> tuple[int, ...]:
        """Shape of one stored observation of a task, of which there must be some."""
        return next(iter(self._rings[task].values())).observation_shape

    def add(self, fragment: Fragment) -> None:
        """Stores a fragment, over the oldest steps of its source once the memory is full."""
        rings, restored = self._rings[fragment.task], self._restored[fragment.task]
        share = -(-self.capacity // self._num_sources)
        if fragment.source in restored:
            restored.discard(fragment.source)
            if not rings[fragment.source].fits(share, fragment):
                logger.warning("Task %r has other sizes than what was restored of it.", fragment.task)
                del rings[fragment.source]
        if fragment.source not in rings:
            while restored and len(rings) >= self._num_sources:  # of other runners than there are now
                del rings[restored.pop()]
            rings[fragment.source] = Ring.for_fragments(share, fragment)
        rings[fragment.source].add(fragment)

    def draw_task(self, tasks: Iterable[str]) -> str:
        """One of `tasks`, each with the same chance."""
        tasks = tuple(tasks)
        return tasks[int(self._rng.integers(len(tasks)))]

    def sample(
        self,
        task: str,
        size: int,
        columns: Iterable[str],
        out: Mapping[str, NDArray[Any]] | None = None,
    ) -> dict[str, NDArray[Any]]:
        """Draws transitions of one task uniformly, with replacement.

        Args:
            task: Whose.
            size: How many.
            columns: Of `observations`, `actions`, `rewards`, `terminations`, `truncations`,
                `next_observations` and the labels' names; with `discounts`, `rewards` are returns of up to
                `n_step` steps and `next_observations` what follows them, discounted so.
            out: Arrays to write into, by column; others are allocated.

        Returns:
            Column -> `(size, ...)`.
        """
        out, columns = out or {}, tuple(columns)
        rings = list(self._rings[task].values())
        if len(rings) == 1:
            return self._take(rings[0], rings[0].draw(size, self._rng), columns, out)
        parts = [self._take(ring, index, columns, {}) for ring, index in self._draw_parts(rings, size)]
        return {name: np.concatenate([part[name] for part in parts], out=out.get(name)) for name in columns}

    def _take(
        self, ring: Ring, index: NDArray[np.int64], columns: tuple[str, ...], out: Mapping[str, NDArray[Any]]
    ) -> dict[str, NDArray[Any]]:
        if "discounts" not in columns:
            return {name: ring.take(name, index, out.get(name)) for name in columns}
        returns, discounts, last = ring.take_n_step(index, self._n_step, self._gamma)
        taken = {"rewards": returns, "discounts": discounts}
        for name in columns:
            if name not in taken:
                taken[name] = ring.take(name, last if name == "next_observations" else index, out.get(name))
        return taken

    def save(self, path: Path) -> None:
        """Writes the whole memory, and where its random numbers stand, to a file."""
        state = {
            "rng": self._rng.bit_generator.state,
            "rings": {
                task: {source: ring.get_state() for source, ring in rings.items()}
                for task, rings in self._rings.items()
            },
        }
        with path.open("wb") as file:
            pickle.dump(state, file, protocol=pickle.HIGHEST_PROTOCOL)

    def load(self, path: Path) -> None:
        """Restores what `save` wrote.

        If capacity, environments or labels are others now, a task's memory starts empty when its next
        fragment comes; what other runners than today's had sampled goes when today's need the room.

        Raises:
            DistillError: An older version saved it.
        """
        with path.open("rb") as file:
            state = pickle.load(file)
        self._rng.bit_generator.state = state["rng"]
        for task, states in state["rings"].items():
            # One by one: each takes as much memory again as its ring until it is gone.
            self._rings[task] = {source: Ring.from_state(states.pop(source)) for source in list(states)}
            self._restored[task] = set(self._rings[task])

    def _draw_parts(self, rings: list[Ring], size: int) -> list[tuple[Ring, NDArray[np.int64]]]:
        lengths = np.array([len(ring) for ring in rings], float)
        counts = self._rng.multinomial(size, lengths / lengths.sum())
        return [(ring, ring.draw(int(n), self._rng)) for ring, n in zip(rings, counts, strict=True) if n]


class SequenceReplay:
    """A ring of sequences per task; memory is taken when the first fragment comes.

    Where `TaskReplay` hands out transitions, this hands out what an environment did in a whole fragment.
    """

    def __init__(
        self,
        tasks: Iterable[str],
        *,
        capacity: int,
        spaces: SharedSpaces,
        device: torch.device | str = "cpu",
        seed: int | None = None,
    ):
        """Makes an empty memory.

        Args:
            tasks: Names, in the order that trajectories have.
            capacity: Transitions per task.
            spaces: The tasks' common spaces.
            device: Where trajectories' tensors go.
            seed: Of the drawing; None draws one.
        """
        self.capacity = capacity
        self.tasks = tuple(tasks)
        self._spaces = spaces
        self._device = device
        self._rings: dict[str, SequenceRing] = {}
        self._rng = np.random.default_rng(seed)

    def __len__(self) -> int:
        """Number of transitions of the task that has the fewest."""
        return min(map(self.num_transitions, self.tasks))

    def num_transitions(self, task: str) -> int:
        """Number of stored steps of a task (autoreset rows count too)."""
        return self._rings[task].num_steps if task in self._rings else 0

    def add(self, fragment: Fragment) -> None:
        """Stores a fragment's sequences, over the oldest ones once the memory is full.

        Where it has other sizes than what a checkpoint of other settings held, it begins an empty memory.
        """
        ring = self._rings.get(fragment.task)
        if ring is None or not ring.fits(self.capacity, fragment):
            if ring is not None:
                logger.warning("Task %r has other sizes than what was stored of it.", fragment.task)
            ring = self._rings[fragment.task] = SequenceRing.for_fragments(self.capacity, fragment)
        ring.add(fragment)

    def draw(self, num_sequences: int) -> Trajectories:
        """So many sequences of each task, which must have some, uniformly; none twice if there are enough.

        Returns:
            Trajectories with `B = num_sequences`.
        """
        drawn = [self._rings[task].draw(num_sequences, self._rng) for task in self.tasks]
        return Trajectories.of(drawn, self._spaces, self._device)

    def save(self, path: Path) -> None:
        """Writes the whole memory, and where its random numbers stand, to a file."""
        rings = {task: ring.get_state() for task, ring in self._rings.items()}
        state = {"rng": self._rng.bit_generator.state, "rings": rings}
        with path.open("wb") as file:
            pickle.dump(state, file, protocol=pickle.HIGHEST_PROTOCOL)

    def load(self, path: Path) -> None:
        """Restores what `save` wrote."""
        with path.open("rb") as file:
            state = pickle.load(file)
        self._rng.bit_generator.state = state["rng"]
        states = state["rings"]
        # One by one: each takes as much memory again as its ring until it is gone.
        self._rings = {task: SequenceRing.from_state(states.pop(task)) for task in list(states)}
