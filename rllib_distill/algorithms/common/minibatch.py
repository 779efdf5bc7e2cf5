"""Minibatches for one module: an equal share of rows from the replay memory of each of its tasks."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from ray.rllib.core.columns import Columns
from torch import Tensor

from rllib_distill.sampling import TaskReplay
from rllib_distill.tasks import SharedSpaces

_FRAMES = {"observations": Columns.OBS, "next_observations": Columns.NEXT_OBS}
EXPERT_OUTPUTS = "expert_outputs"
EXPERT_FEATURES = "expert_features"
LEGAL_ACTIONS = "legal_actions"


class Minibatches:
    """Draws `n` rows per task and lays them out task by task: row `i * n + j` is the j-th of task i.

    The arrays are allocated once and written again by the next draw.
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
        self._device = device
        space = spaces.observation_space
        rows = len(self.tasks) * rows_per_task
        self._frames = {
            name: np.zeros((rows, *space.shape), space.dtype) for name in _FRAMES if name in self._columns
        }
        self._expert_outputs = np.zeros((rows, spaces.num_actions), np.float32)
        legal = np.stack([spaces.legal_actions[task] for task in self.tasks]).repeat(rows_per_task, axis=0)
        self._legal_actions = None if legal.all() else torch.from_numpy(legal).to(device)

    def draw(self) -> dict[str, Any]:
        """A minibatch of `N = tasks * n` rows.

        Returns:
            What the columns ask for, of: `obs` and `next_obs` `(N, *observation)`; `actions` `(N,)`, common
            ones; `rewards` and `terminations` `(N,)` float32; `expert_outputs` `(N, A)`, 0 at illegal
            actions; `expert_features`, a list of `(n, F_i)` per task; and always `legal_actions`, `(N, A)`
            bool, or None if all are legal.
        """
        parts = [self._draw_task(i, task) for i, task in enumerate(self.tasks)]
        batch: dict[str, Any] = {LEGAL_ACTIONS: self._legal_actions}
        for name, frames in self._frames.items():
            batch[_FRAMES[name]] = self._tensor(frames)
        if EXPERT_OUTPUTS in self._columns:
            batch[EXPERT_OUTPUTS] = self._tensor(self._expert_outputs)
        if EXPERT_FEATURES in self._columns:
            batch[EXPERT_FEATURES] = [self._tensor(part[EXPERT_FEATURES]) for part in parts]
        for name in ("actions", "rewards", "terminations"):
            if name in self._columns:
                column = self._tensor(np.concatenate([part[name] for part in parts]))
                batch[name] = column.float() if name == "terminations" else column
        return batch

    def _draw_task(self, i: int, task: str) -> dict[str, NDArray[Any]]:
        rows = slice(i * self._n, (i + 1) * self._n)
        whole = {
            name: frames[rows]
            for name, frames in self._frames.items()
            if frames.shape[1:] == self._replay.observation_shape(task)
        }
        drawn = self._replay.sample(task, self._n, self._columns, out=whole)
        for name in self._frames.keys() - whole.keys():
            frames = drawn.pop(name)
            self._frames[name][rows, ..., : frames.shape[-1]] = frames  # the other channels stay zero
        own = self._spaces.common_actions[task]
        if EXPERT_OUTPUTS in drawn:
            self._expert_outputs[rows, own] = drawn.pop(EXPERT_OUTPUTS)
        if "actions" in drawn:
            drawn["actions"] = own[drawn["actions"]]
        return drawn

    def _tensor(self, array: NDArray[Any]) -> Tensor:
        return torch.from_numpy(array).to(self._device)
