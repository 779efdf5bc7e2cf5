"""A ring of one task's sequences, each one environment's share of a fragment."""

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from rllib_distill.sampling.fragment import Fragment
from rllib_distill.sampling.packed import pack, unpack

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
        return cls(fragment.task, capacity, _columns(fragment), fragment.frame_stack)

    def fits(self, num_transitions: int, fragment: Fragment) -> bool:
        """Whether `for_fragments` would make a ring like this one."""
        like = _columns(fragment)
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
        for name, column in _columns(fragment).items():
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


def _columns(fragment: Fragment) -> dict[str, NDArray[Any]]:
    """`(time, B, ...)` each, by name."""
    fields = {name: getattr(fragment, name) for name in _FIELDS}
    return {**fields, _FIRST_BEGINS: fragment.first_begins[None], **fragment.labels}


def _is_alike(column: NDArray[Any], other: NDArray[Any]) -> bool:
    """But for the number of sequences."""
    return (len(column), column.shape[2:], column.dtype) == (len(other), other.shape[2:], other.dtype)
