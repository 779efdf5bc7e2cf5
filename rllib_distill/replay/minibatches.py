"""Minibatches for one module: equal shares of rows, or of sequences, from its tasks, or all from one."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from numpy.typing import NDArray

from rllib_distill.replay.batch import Batch, final_observations
from rllib_distill.replay.fragment import EXPERT_FEATURES, EXPERT_OUTPUTS
from rllib_distill.replay.host_buffers import HostBuffers
from rllib_distill.replay.replay_buffer import Columns, ReplayBuffer
from rllib_distill.tasks import SharedSpaces

_OBSERVATIONS = ("observations", "next_observations")


@dataclass(frozen=True)
class Sequences:
    """How sequences are drawn.

    Attributes:
        length: Number of rows.
        burn_in: Number of rows at the beginning that only warm up a recurrent state.
    """

    length: int
    burn_in: int = 0


class Minibatches:
    """Draws from every task and lays the draws out side by side.

    The arrays are allocated once and written again by later draws: a minibatch is good until the next draw.
    """

    def __init__(
        self,
        replay_buffer: ReplayBuffer,
        spaces: SharedSpaces,
        tasks: Iterable[str],
        size: int,
        columns: Iterable[str],
        device: torch.device | str,
        *,
        sequences: Sequences | None = None,
    ):
        """Prepares for draws.

        Args:
            replay_buffer: The replay buffer to draw from.
            spaces: The module's common spaces.
            tasks: The module's tasks, in order.
            size: Number of rows, or of sequences, per task.
            columns: Columns of `ReplayBuffer.sample_rows`; sequences also have those that `Batch` needs.
            device: Device of the tensors.
            sequences: How sequences are drawn; None to draw rows.
        """
        self._replay_buffer = replay_buffer
        self._spaces = spaces
        self.tasks = tuple(tasks)
        self._size = size
        self._sequences = sequences
        needed = () if sequences is None else ("actions", "terminations", "truncations", "valid")
        self._columns = tuple(dict.fromkeys([*columns, *needed]))
        self._buffers = HostBuffers(device)
        self._device = device
        legal = spaces.legal_of(self.tasks)
        self._legal = None if legal is None else torch.from_numpy(legal).to(device)[:, None, None]

    def draw(self) -> Batch:
        """Draws a minibatch with the columns that were asked for."""
        self._buffers.turn()
        finals = [self._draw_task(i, task) for i, task in enumerate(self.tasks)]
        columns: dict[str, Any] = {}
        for name in self._columns:
            if name == EXPERT_FEATURES:
                columns[name] = [self._buffers.to_device(f"{name}/{task}") for task in self.tasks]
            else:
                columns[name] = self._buffers.to_device(name)
        observations = columns.pop("observations")
        sequences: dict[str, Any] = {}
        if self._sequences is not None:
            sequences = {name: self._buffers.to_device(name) for name in ("is_first", "state")}
            sequences["final"] = final_observations(finals, self._size, self._spaces, self._device)
            sequences["burn_in"] = self._sequences.burn_in
        self._buffers.sent()
        return Batch(self.tasks, observations, columns, legal_actions=self._legal, **sequences)

    def _draw_task(self, i: int, task: str) -> dict[tuple[int, int], NDArray[Any]]:
        """Draws into the i-th part of every array; returns the sequences' final observations."""
        whole = self._arrays_that_fit(i, task)
        finals: dict[tuple[int, int], NDArray[Any]] = {}
        if self._sequences is None:
            rows = {name: array[0] for name, array in whole.items()}
            drawn = self._replay_buffer.sample_rows(task, self._size, self._columns, out=rows)
            drawn = {name: values[None] for name, values in drawn.items()}
        else:
            length = self._sequences.length
            drawn, finals = self._replay_buffer.sample_sequences(
                task, self._size, length, self._columns, out=whole
            )
        for name, values in drawn.items():
            if name not in whole:
                self._write(i, task, name, values)
        return finals

    def _arrays_that_fit(self, i: int, task: str) -> Columns:
        """The arrays into which a task's observations are drawn directly, as they need no padding."""
        own_shape = self._replay_buffer.observation_shape(task)
        arrays = {name: self._buffers.get(name) for name in _OBSERVATIONS if name in self._columns}
        return {
            name: array[i]
            for name, array in arrays.items()
            if array is not None and array.shape[-len(own_shape) :] == own_shape
        }

    def _write(self, i: int, task: str, name: str, values: NDArray[Any]) -> None:
        rows, spaces = values.shape[:2], self._spaces
        if name in _OBSERVATIONS:  # a task's further channels stay zero
            array = self._array(name, (*rows, *spaces.observation_space.shape), values)
            spaces.pad(values, out=array[i])
        elif name == EXPERT_OUTPUTS:
            spaces.scatter(task, values, out=self._array(name, (*rows, spaces.num_actions), values)[i])
        elif name == EXPERT_FEATURES:
            self._array(f"{name}/{task}", values.shape, values, stacked=False)[:] = values
        else:
            own = spaces.to_common(task, values) if name == "actions" else values
            self._array(name, values.shape, values)[i] = own

    def _array(
        self, name: str, shape: tuple[int, ...], like: NDArray[Any], *, stacked: bool = True
    ) -> NDArray[Any]:
        """The tasks' array `(N, *shape)`, or one task's own."""
        array = self._buffers.get(name)
        if array is None:
            shape = (len(self.tasks), *shape) if stacked else shape
            array = self._buffers.make(name, shape, like)
        return array


class OneTaskAtATime:
    """Minibatches whose rows are all of one task, drawn anew each time (Rusu et al., 2016)."""

    def __init__(self, replay_buffer: ReplayBuffer, minibatches_of: Mapping[str, Minibatches]):
        """Takes each task's minibatches."""
        self._replay_buffer = replay_buffer
        self._minibatches_of = minibatches_of

    def draw(self) -> Batch:
        """Draws a minibatch of one task; see `Minibatches.draw`."""
        return self._minibatches_of[self._replay_buffer.draw_task(self._minibatches_of)].draw()
