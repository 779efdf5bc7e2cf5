"""Minibatches for one module: equal shares of rows from its tasks' replay memories, or all from one."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from ray.rllib.core.columns import Columns

from rllib_distill.replay.fragment import EXPERT_FEATURES, EXPERT_OUTPUTS, LEGAL_ACTIONS, TASKS
from rllib_distill.replay.host_buffers import HostBuffers
from rllib_distill.replay.replay_buffer import TaskReplay
from rllib_distill.tasks import SharedSpaces

_OBSERVATIONS = {"observations": Columns.OBS, "next_observations": Columns.NEXT_OBS}


class Minibatches:
    """Draws `n` rows per task and lays them out task by task: row `i * n + j` is the j-th of task i.

    The arrays are allocated once and written again by later draws: a minibatch is good until the next draw.
    """

    def __init__(
        self,
        replay: TaskReplay,
        spaces: SharedSpaces,
        tasks: Iterable[str],
        rows_per_task: int,
        columns: Iterable[str],
        device: torch.device | str,
    ):
        """Prepares for draws.

        Args:
            replay: Where the rows are.
            spaces: The module's common spaces.
            tasks: The module's tasks, in order.
            rows_per_task: `n`.
            columns: Of the replay memory's.
            device: Where the tensors go.
        """
        self._replay = replay
        self._spaces = spaces
        self.tasks = tuple(tasks)
        self._n = rows_per_task
        self._columns = tuple(columns)
        self._buffers = HostBuffers(device)
        legal = np.stack([spaces.legal_actions[task] for task in self.tasks]).repeat(rows_per_task, axis=0)
        self._legal_actions = None if legal.all() else torch.from_numpy(legal).to(device)

    def draw(self) -> dict[str, Any]:
        """A minibatch of `N = tasks * n` rows.

        Returns:
            What the columns ask for: `obs` and `next_obs` `(N, *observation)`; `actions` `(N,)`, common
            ones; other numbers `(N,)`, of which `terminations` are made float32; `expert_outputs` `(N, A)`,
            0 at illegal actions; `expert_features`, a list of `(n, F_i)` per task; and always
            `legal_actions`, `(N, A)` bool, or None if all are legal, and `tasks`, their names in order.
        """
        self._buffers.turn()
        for i, task in enumerate(self.tasks):
            self._draw_task(i, task)
        batch: dict[str, Any] = {LEGAL_ACTIONS: self._legal_actions, TASKS: self.tasks}
        for name in self._columns:
            if name == EXPERT_FEATURES:
                batch[name] = [self._buffers.to_device(f"{name}/{task}") for task in self.tasks]
            else:
                batch[_OBSERVATIONS.get(name, name)] = self._buffers.to_device(name)
        self._buffers.sent()
        if "terminations" in batch:
            batch["terminations"] = batch["terminations"].float()
        return batch

    def _draw_task(self, i: int, task: str) -> None:
        rows = slice(i * self._n, (i + 1) * self._n)
        whole = {
            name: observations[rows]
            for name in _OBSERVATIONS
            if (observations := self._buffers.get(name)) is not None
            and observations.shape[1:] == self._replay.observation_shape(task)
        }
        drawn = self._replay.sample(task, self._n, self._columns, out=whole)
        own = self._spaces.common_actions[task]
        for name in self._columns:
            values = drawn[name]
            if name in whole:
                continue
            if name in _OBSERVATIONS:  # a task's further channels stay zero
                to = self._buffer(name, self._spaces.observation_space.shape, values)
                to[rows, ..., : values.shape[-1]] = values
            elif name == EXPERT_OUTPUTS:
                self._buffer(name, (self._spaces.num_actions,), values)[rows, own] = values
            elif name == EXPERT_FEATURES:
                self._buffer(f"{name}/{task}", values.shape[1:], values, num_rows=self._n)[:] = values
            else:
                self._buffer(name, (), values)[rows] = own[values] if name == "actions" else values

    def _buffer(
        self, name: str, row_shape: tuple[int, ...], like: NDArray[Any], num_rows: int | None = None
    ) -> NDArray[Any]:
        num_rows = len(self.tasks) * self._n if num_rows is None else num_rows
        buffer = self._buffers.get(name)
        return self._buffers.make(name, (num_rows, *row_shape), like) if buffer is None else buffer


class OneTaskAtATime:
    """Minibatches whose rows are all of one task, drawn anew each time (Rusu et al., 2016)."""

    def __init__(self, replay: TaskReplay, minibatches_of: Mapping[str, Minibatches]):
        """Takes each task's minibatches."""
        self._replay = replay
        self._minibatches_of = minibatches_of

    def draw(self) -> dict[str, Any]:
        """A minibatch of one task: see `Minibatches.draw`."""
        return self._minibatches_of[self._replay.draw_task(self._minibatches_of)].draw()
