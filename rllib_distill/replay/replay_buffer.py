"""Replay buffers: rings of every task's steps, each stored once, read as rows or as sequences."""

import logging
import pickle
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rllib_distill.errors import DistillError
from rllib_distill.replay.fragment import STEP_COLUMNS, Fragment, forget_frames_before_reset

logger = logging.getLogger(__name__)

Columns = dict[str, NDArray[Any]]
Index = NDArray[np.int64]

_FORMAT = 2


class Start(NamedTuple):
    """What is known of a fragment's first row: recurrent states `(B, S)`, and `is_first` `(B,)`."""

    state: NDArray[np.float32]
    is_first: NDArray[np.bool_]


class Ring:
    """The last `rows` time steps of `B` environments that run side by side.

    Row `t`'s next observation is row `t + 1`, so a frame takes its space once; stacks of frames are put
    together when they are drawn. The row at the head holds the newest observation, which no transition
    starts from yet. Where a fragment does not follow the one before (environments were reset, a runner was
    replaced, another learner got the one between), the head row is left behind as an invalid one, and the
    older frames of the fragment's first stacks come before it as invalid rows. The row after such a gap is
    `is_first`: a recurrent state does not go on over it.

    Rows are addressed by flat indices, row * B + environment, of any shape. Sequences start where a fragment
    did, of which the recurrent state is known, and go on over the following fragments.
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
        self._starts: dict[int, Start] = {}  # time index of a fragment's first row -> what is known of it
        self._final_observations: dict[int, NDArray[Any]] = {}  # flat index -> observation

    @classmethod
    def for_fragments(cls, num_transitions: int, fragment: Fragment) -> "Ring":
        """Makes a ring for fragments of this one's shapes, dtypes and columns.

        Args:
            num_transitions: How many transitions it can hold, rounded up to whole rows.
            fragment: The first fragment that will come.
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
            and all(start.state.shape == fragment.state.shape for start in self._starts.values())
        )

    def __len__(self) -> int:
        """Number of rows that transitions may start from, valid or not, times environments."""
        return min(self.head, self.rows - self.frame_stack) * self.num_envs

    @property
    def observation_shape(self) -> tuple[int, ...]:
        """Shape of one observation."""
        frame_shape = tuple(self._columns["frames"].shape[2:])
        return frame_shape if self.frame_stack == 1 else (*frame_shape, self.frame_stack)

    # -- writing -------------------------------------------------------------------------------------------

    def add(self, fragment: Fragment) -> None:
        """Appends a fragment; of one longer than the ring, the last rows are kept."""
        begins_anew = fragment.start != self._next_start
        if begins_anew:
            self._leave_gap(fragment)
        self._next_start = fragment.start + len(fragment)
        first, skipped = self.head, max(0, len(fragment) - (self.rows - 1))
        for steps, rows in _segments(skipped, len(fragment), first, self.rows):
            self._forget_final_observations(rows)
            for name, column in _columns(fragment).items():
                self._columns[name][rows] = column[steps]
        for (t, b), observation in fragment.final_observations.items():
            if t >= skipped:
                self._final_observations[(first + t) % self.rows * self.num_envs + b] = observation.copy()
        if begins_anew and not skipped:
            self._columns["is_first"][first % self.rows] = True
        self.head += len(fragment)
        newest = self.head % self.rows
        self._forget_final_observations(slice(newest, newest + 1))
        self._columns["frames"][newest] = fragment.frames[-1]
        self._columns["steps_since_reset"][newest] = fragment.steps_since_reset[-1]
        self._columns["is_first"][newest] = fragment.is_first[-1]
        self._columns["valid"][newest] = False
        # Copies: a part of what Ray's object store lent would keep the whole fragment there.
        self._starts[first] = Start(fragment.state.copy(), fragment.is_first[0].copy())
        while self._starts and (time := next(iter(self._starts))) < self._oldest:
            del self._starts[time]

    def _leave_gap(self, fragment: Fragment) -> None:
        if self._next_start is not None:
            self.head += 1  # no transition will ever start from the newest observation's row
        for frame in fragment.frames[: self.frame_stack - 1]:
            row = self.head % self.rows
            self._forget_final_observations(slice(row, row + 1))
            self._columns["frames"][row] = frame
            self._columns["valid"][row] = False
            self.head += 1

    @property
    def _oldest(self) -> int:
        """Time index of the oldest row whose frames are all there."""
        return max(0, self.head - (self.rows - self.frame_stack))

    # -- drawing -------------------------------------------------------------------------------------------

    def draw_rows(self, size: int, rng: np.random.Generator) -> Index:
        """Draws valid transitions uniformly, with replacement: flat indices `(size,)`.

        Raises:
            ValueError: There is no valid transition.
        """
        valid = self._flat("valid")
        drawn = self._draw_any(size, rng)
        while (bad := ~valid[drawn]).any():
            if not valid.any():
                raise ValueError("A replay buffer of autoreset rows alone has nothing to draw.")
            drawn[bad] = self._draw_any(int(bad.sum()), rng)
        return drawn

    def _draw_any(self, size: int, rng: np.random.Generator) -> Index:
        index: Index = self._oldest * self.num_envs + rng.integers(0, len(self), size)
        return index % (self.rows * self.num_envs)

    def starts(self, length: int) -> list[int]:
        """Time indices at which sequences of `length` rows may start; each does in every environment."""
        return [time for time in self._starts if time + length <= self.head]

    def sequences(self, starts: Index, envs: Index, length: int) -> Index:
        """Flat indices `(length + 1, size)` of sequences' rows, and of the row after each.

        Args:
            starts: `(size,)`, entries of `starts(length)`.
            envs: `(size,)`, the environment of each.
            length: Number of rows of a sequence.
        """
        index: Index = (starts + np.arange(length + 1)[:, None]) % self.rows * self.num_envs + envs
        return index

    def first_rows(self, starts: Index, envs: Index) -> Start:
        """The recurrent states `(size, S)` at sequences' first rows, and whether these are `is_first`."""
        pairs = [(self._starts[int(time)], b) for time, b in zip(starts, envs, strict=True)]
        return Start(np.stack([s.state[b] for s, b in pairs]), np.array([s.is_first[b] for s, b in pairs]))

    # -- reading -------------------------------------------------------------------------------------------

    def take(self, name: str, index: Index, out: NDArray[Any] | None = None) -> NDArray[Any]:
        """Column `name` at flat indices, `(*index.shape, ...)`, or `observations`, or `next_observations`."""
        if name == "observations":
            return self._observations(index, out)
        if name != "next_observations":
            return np.take(self._flat(name), index, axis=0, out=out, mode="clip")
        taken = self._observations(self._after(index), out)
        for at in self._with_final_observations(index):
            taken[at] = self._final_observations[int(index[at])]
        return taken

    def final_observations(self, index: Index) -> dict[tuple[int, int], NDArray[Any]]:
        """Final observations of sequences, `(t, i) -> observation`, at flat indices `(length, size)`."""
        return {
            (at[0], at[1]): self._final_observations[int(index[at])]
            for at in self._with_final_observations(index)
        }

    def _with_final_observations(self, index: Index) -> Iterator[tuple[int, ...]]:
        """Positions in `index` that have one; none in NEXT_STEP autoreset mode, where the next row has it."""
        if self._final_observations:
            for at in zip(*np.nonzero(self._flat("truncations")[index]), strict=True):
                if int(index[at]) in self._final_observations:
                    yield tuple(map(int, at))

    def take_n_step(
        self, index: Index, n_step: int, gamma: float
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], Index]:
        """Returns over `n_step` steps (Sutton, 1988), or fewer where an episode or the ring ends.

        Args:
            index: Flat indices of first transitions.
            n_step: Number of steps, at least 1.
            gamma: Discount factor.

        Returns:
            Discounted sums of rewards; the discounts of the value that comes after, 0 after a terminal state;
            the flat indices of the last transitions, whose next observations have that value.
        """
        valid, rewards = self._flat("valid"), self._flat("rewards")
        terminations, truncations = self._flat("terminations"), self._flat("truncations")
        last, returns = index.copy(), rewards[index]
        discounts = np.full(index.shape, gamma, np.float32)
        for _ in range(n_step - 1):
            following = self._after(last)
            # An invalid row after a step that did not end an episode is the head, or was it once.
            goes_on = ~(terminations[last] | truncations[last]) & valid[following]
            returns += np.where(goes_on, discounts * rewards[following], 0.0).astype(np.float32)
            discounts = np.where(goes_on, discounts * np.float32(gamma), discounts)
            last = np.where(goes_on, following, last)
        discounts[terminations[last]] = 0.0
        return returns, discounts, last

    def _after(self, index: Index) -> Index:
        return (index + self.num_envs) % (self.rows * self.num_envs)

    def _observations(self, index: Index, out: NDArray[Any] | None) -> NDArray[Any]:
        frames = self._flat("frames")
        if self.frame_stack == 1:
            return np.take(frames, index, axis=0, out=out, mode="clip")
        back = np.arange(1 - self.frame_stack, 1) * self.num_envs
        # Stacks lie frame by frame in memory, however the caller sees them: each is k copies of whole frames.
        into = None if out is None else np.moveaxis(out, -1, index.ndim)
        stacks = np.take(frames, index[..., None] + back, axis=0, out=into, mode="wrap")
        forget_frames_before_reset(stacks, self._flat("steps_since_reset")[index])
        return np.moveaxis(stacks, index.ndim, -1)

    def _flat(self, name: str) -> NDArray[Any]:
        column = self._columns[name]
        return column.reshape(self.rows * self.num_envs, *column.shape[2:])

    def _forget_final_observations(self, overwritten: slice) -> None:
        if self._final_observations:
            for index in range(overwritten.start * self.num_envs, overwritten.stop * self.num_envs):
                self._final_observations.pop(index, None)

    # -- checkpoints ---------------------------------------------------------------------------------------

    def get_state(self) -> dict[str, Any]:
        """The ring's whole state, bit for bit; boolean columns are packed, 8 values to a byte."""
        used = min(self.head + 1, self.rows)
        return {
            "rows": self.rows,
            "frame_stack": self.frame_stack,
            "head": self.head,
            "next_start": self._next_start,
            "columns": {name: _pack(column[:used]) for name, column in self._columns.items()},
            "starts": {time: tuple(start) for time, start in self._starts.items()},
            "final_observations": self._final_observations,
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> "Ring":
        """Makes the ring whose state `get_state` returned."""
        columns = {name: _unpack(*packed) for name, packed in state["columns"].items()}
        ring = cls(state["rows"], columns, state["frame_stack"])
        ring.head = state["head"]
        ring._next_start = state["next_start"]
        for name, column in columns.items():
            if len(column) == ring.rows:
                ring._columns[name] = column  # no copy: it may be gigabytes
            else:
                ring._columns[name][: len(column)] = column
        ring._starts = {time: Start(*start) for time, start in state["starts"].items()}
        ring._final_observations = dict(state["final_observations"])
        return ring


class ReplayBuffer:
    """A ring per task and env runner, allocated when its first fragment comes.

    Actor-Mimic and Policy Distillation both keep one replay buffer per game (Parisotto 2016, 100,000
    transitions; Rusu 2016, 540,000), so a task whose episodes are long cannot crowd out the others.
    """

    def __init__(
        self,
        tasks: Iterable[str],
        *,
        capacity: int,
        num_env_runners: int = 1,
        n_step: int = 1,
        gamma: float = 0.99,
        seed: int | None = None,
    ):
        """Makes an empty buffer.

        Args:
            tasks: Names of the tasks.
            capacity: Transitions per task, shared equally by the env runners.
            num_env_runners: How many env runners feed this buffer.
            n_step: Steps of a row's return, see `Ring.take_n_step`.
            gamma: Discount factor of this return.
            seed: Seed of the draws; None for a random one.
        """
        self.capacity = capacity
        self._num_env_runners = num_env_runners
        self._n_step = n_step
        self._gamma = gamma
        self._rings: dict[str, dict[int, Ring]] = {task: {} for task in tasks}
        self._restored: dict[str, set[int]] = {task: set() for task in tasks}  # runners not heard of since
        self._rng = np.random.default_rng(seed)

    @property
    def tasks(self) -> tuple[str, ...]:
        """Names of the tasks."""
        return tuple(self._rings)

    def __len__(self) -> int:
        """Number of transitions of the task that has the fewest."""
        return min(self.num_transitions(task) for task in self._rings)

    def num_transitions(self, task: str) -> int:
        """Number of stored steps of a task (autoreset rows, which are never drawn as rows, count too)."""
        return sum(map(len, self._rings[task].values()))

    def num_sequences(self, length: int) -> int:
        """Number of sequences of `length` rows, of the task that has the fewest."""
        return min(
            sum(len(ring.starts(length)) * ring.num_envs for ring in rings.values())
            for rings in self._rings.values()
        )

    def observation_shape(self, task: str) -> tuple[int, ...]:
        """Shape of a task's observations, of which at least one must be stored."""
        return next(iter(self._rings[task].values())).observation_shape

    def add(self, fragment: Fragment) -> None:
        """Stores a fragment; in a full buffer it replaces the oldest steps of its env runner."""
        rings, restored = self._rings[fragment.task], self._restored[fragment.task]
        share, runner = -(-self.capacity // self._num_env_runners), fragment.env_runner_index
        if runner in restored:
            restored.discard(runner)
            if not rings[runner].fits(share, fragment):
                logger.warning("Task %r has other sizes than what was restored of it.", fragment.task)
                del rings[runner]
        if runner not in rings:
            while restored and len(rings) >= self._num_env_runners:  # of other runners than there are now
                del rings[restored.pop()]
            rings[runner] = Ring.for_fragments(share, fragment)
        rings[runner].add(fragment)

    def draw_task(self, tasks: Iterable[str]) -> str:
        """Draws one of `tasks`, each with the same chance."""
        tasks = tuple(tasks)
        return tasks[int(self._rng.integers(len(tasks)))]

    # -- rows ----------------------------------------------------------------------------------------------

    def sample_rows(
        self, task: str, size: int, columns: Iterable[str], out: Mapping[str, NDArray[Any]] | None = None
    ) -> Columns:
        """Draws transitions of one task uniformly, with replacement.

        Args:
            task: The task.
            size: Number of rows.
            columns: Any of `observations`, `actions`, `rewards`, `terminations`, `truncations`,
                `next_observations` and fragments' own columns. With `discounts`, `rewards` are returns of up
                to `n_step` steps, after which `next_observations` follow.
            out: Arrays `(size, ...)` to write into, by column; others are allocated.

        Returns:
            Column -> `(size, ...)`.
        """
        out, columns = out or {}, tuple(columns)
        rings = list(self._rings[task].values())
        if len(rings) == 1:
            return self._rows(rings[0], rings[0].draw_rows(size, self._rng), columns, out)
        lengths = np.array([len(ring) for ring in rings], float)
        counts = self._rng.multinomial(size, lengths / lengths.sum())
        parts = [
            self._rows(ring, ring.draw_rows(int(count), self._rng), columns, {})
            for ring, count in zip(rings, counts, strict=True)
            if count
        ]
        return {name: np.concatenate([part[name] for part in parts], out=out.get(name)) for name in columns}

    def _rows(
        self, ring: Ring, index: Index, columns: tuple[str, ...], out: Mapping[str, NDArray[Any]]
    ) -> Columns:
        if "discounts" not in columns:
            return {name: ring.take(name, index, out.get(name)) for name in columns}
        returns, discounts, last = ring.take_n_step(index, self._n_step, self._gamma)
        taken = {"rewards": returns, "discounts": discounts}
        for name in columns:
            if name not in taken:
                taken[name] = ring.take(name, last if name == "next_observations" else index, out.get(name))
        return taken

    # -- sequences -----------------------------------------------------------------------------------------

    def sample_sequences(
        self,
        task: str,
        size: int,
        length: int,
        columns: Iterable[str],
        out: Mapping[str, NDArray[Any]] | None = None,
    ) -> tuple[Columns, dict[tuple[int, int], NDArray[Any]]]:
        """Draws sequences of one task, uniformly of those that start with a fragment; none twice if possible.

        Args:
            task: The task.
            size: Number of sequences.
            length: Rows of a sequence; the task must have at least one that long.
            columns: As in `sample_rows`, without `next_observations` and `discounts`.
            out: Arrays to write into, by column; others are allocated.

        Returns:
            The columns asked for, `(length, size, ...)`, with `is_first` and `state` `(size, S)`;
            `observations` and `is_first` have `length + 1` rows. And the final observations of truncated
            episodes, `(t, i) -> observation`, as `Fragment` has them.
        """
        out, columns = out or {}, tuple(columns)
        rings = list(self._rings[task].values())
        starts = [ring.starts(length) for ring in rings]
        numbers = [len(times) * ring.num_envs for ring, times in zip(rings, starts, strict=True)]
        total = sum(numbers)
        drawn = self._rng.choice(total, size, replace=size > total, shuffle=False)
        of_ring = np.searchsorted(np.cumsum(numbers), drawn, side="right")
        parts, finals, first = [], {}, 0
        for i, (ring, times) in enumerate(zip(rings, starts, strict=True)):
            own = drawn[of_ring == i] - sum(numbers[:i])
            if not len(own):
                continue
            at, envs = np.array(times)[own // ring.num_envs], own % ring.num_envs
            index = ring.sequences(at, envs, length)
            parts.append(self._sequences(ring, index, at, envs, columns, out if len(own) == size else {}))
            for (t, b), observation in ring.final_observations(index[:-1]).items():
                finals[t, first + b] = observation
            first += len(own)
        if len(parts) == 1:
            return parts[0], finals
        return {name: _side_by_side(name, parts, out.get(name)) for name in parts[0]}, finals

    def _sequences(
        self,
        ring: Ring,
        index: Index,
        starts: Index,
        envs: Index,
        columns: Iterable[str],
        out: Mapping[str, NDArray[Any]],
    ) -> Columns:
        first = ring.first_rows(starts, envs)
        taken = {
            name: ring.take(name, index if name == "observations" else index[:-1], out.get(name))
            for name in columns
        }
        taken["is_first"] = ring.take("is_first", index, out.get("is_first"))
        taken["is_first"][0] = first.is_first  # True in the ring after a gap, but here the state is known
        return {**taken, "state": first.state}

    # -- checkpoints ---------------------------------------------------------------------------------------

    def save(self, path: Path) -> None:
        """Writes the whole buffer and the state of its random numbers to a file."""
        state = {
            "format": _FORMAT,
            "rng": self._rng.bit_generator.state,
            "rings": {
                task: {runner: ring.get_state() for runner, ring in rings.items()}
                for task, rings in self._rings.items()
            },
        }
        with path.open("wb") as file:
            pickle.dump(state, file, protocol=pickle.HIGHEST_PROTOCOL)

    def load(self, path: Path) -> None:
        """Restores what `save` wrote.

        If capacity, environments or columns have changed, a task's buffer starts empty when its next fragment
        comes. Samples of env runners that are gone are dropped when present ones need their space.

        Raises:
            DistillError: An older version saved it.
        """
        with path.open("rb") as file:
            state = pickle.load(file)
        if state.get("format") != _FORMAT:
            raise DistillError(
                "This replay buffer was saved by an older version of rllib_distill. "
                "Delete the checkpoint's folder 'replay' to go on with an empty one."
            )
        self._rng.bit_generator.state = state["rng"]
        for task, states in state["rings"].items():
            # One by one: until it is dropped, each takes as much space as its ring.
            self._rings[task] = {runner: Ring.from_state(states.pop(runner)) for runner in list(states)}
            self._restored[task] = set(self._rings[task])


def _side_by_side(name: str, parts: Sequence[Columns], out: NDArray[Any] | None) -> NDArray[Any]:
    return np.concatenate([part[name] for part in parts], axis=0 if name == "state" else 1, out=out)


def _segments(first: int, last: int, head: int, rows: int) -> Iterator[tuple[slice, slice]]:
    """Steps `first` to `last` and the rows that they go to, in runs without a wrap: slices copy fastest."""
    while first < last:
        row = (head + first) % rows
        length = min(last - first, rows - row)
        yield slice(first, first + length), slice(row, row + length)
        first += length


def _num_rows(num_transitions: int, fragment: Fragment) -> int:
    return -(-num_transitions // fragment.num_envs) + fragment.frame_stack


def _columns(fragment: Fragment) -> dict[str, NDArray[Any]]:
    return {
        "frames": fragment.frames[fragment.frame_stack - 1 : -1],
        "steps_since_reset": fragment.steps_since_reset[:-1],
        "is_first": fragment.is_first[:-1],
        **{name: getattr(fragment, name) for name in STEP_COLUMNS},
        **fragment.columns,
    }


def _pack(column: NDArray[Any]) -> tuple[NDArray[Any], tuple[int, ...] | None]:
    """A boolean array at 8 values to a byte with its shape; any other as it is."""
    return (np.packbits(column), column.shape) if column.dtype == np.bool_ else (column, None)


def _unpack(array: NDArray[Any], shape: tuple[int, ...] | None) -> NDArray[Any]:
    """What `_pack` was given."""
    if shape is None:
        return array
    return np.unpackbits(array, count=int(np.prod(shape))).astype(np.bool_).reshape(shape)
