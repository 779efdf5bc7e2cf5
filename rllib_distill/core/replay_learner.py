"""The learner that draws its minibatches from a replay memory of every task."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from ray.rllib.core.columns import Columns

from rllib_distill.core.learner import ColumnarLearner
from rllib_distill.replay.fragment import TASKS
from rllib_distill.replay.minibatch import Minibatches, OneTaskAtATime
from rllib_distill.replay.replay_buffer import TaskReplay


class Memory(Protocol):
    """A memory that can be written to a file."""

    def save(self, path: Path) -> None:
        """Writes all of it."""

    def load(self, path: Path) -> None:
        """Reads what `save` wrote."""


def save_shard(memory: Memory, folder: Path, rank: int) -> None:
    """Writes a rank's memory."""
    folder.mkdir(parents=True, exist_ok=True)
    memory.save(folder / f"rank_{rank}.pkl")


def load_shard(memory: Memory, folder: Path, rank: int) -> None:
    """Reads a rank's memory, if there was one of this rank."""
    path = folder / f"rank_{rank}.pkl"
    if path.exists():
        memory.load(path)


class MultiTaskLearner(ColumnarLearner):
    """Override `compute_loss_for_module` and say which `columns` it reads.

    New fragments go into this rank's shard of the replay memory. Metrics are those of the last minibatch (of
    the last few where each is of one task).
    """

    memory: TaskReplay
    columns: tuple[str, ...] = ("observations",)

    def build_memory(self, num_sources: int) -> None:
        """This rank's shard, and what draws every module's minibatches from it."""
        config = self.config
        self.memory = TaskReplay(
            config.task_set,
            capacity=self.replay_capacity(num_sources),
            num_sources=num_sources,
            seed=None if config.seed is None else config.seed + self._learner_index,
            **self.replay_options(),
        )
        self._minibatches = {
            module_id: self._minibatches_of(module_id)
            for module_id in self.module.keys()  # a MultiRLModule is no mapping
        }

    def draw_minibatch(self) -> dict[str, Any]:
        """Module id -> its minibatch."""
        return {module_id: minibatch.draw() for module_id, minibatch in self._minibatches.items()}

    @property
    def num_logged_minibatches(self) -> int:
        """One, or as many as make every task likely to have its turn."""
        return len(self.config.task_set) if self.config.minibatch_is_of_one_task else 1

    def columns_of(self, module_id: str) -> tuple[str, ...]:
        """Replay columns that the module's loss reads."""
        return self.columns

    def replay_capacity(self, num_sources: int) -> int:
        """Transitions per task in this rank's shard, which so many env runners feed."""
        return -(-int(self.config.replay_capacity) // max(1, self.config.num_learners))

    def replay_options(self) -> dict[str, Any]:
        """What else the replay memory is made with."""
        return {}

    def of_rows(self, batch: Mapping[str, Any], of_tasks: Sequence[float]) -> torch.Tensor | float:
        """What a minibatch's tasks have of their own, `(N,)` by rows; a number where it is the same."""
        if len(set(of_tasks)) == 1:
            return of_tasks[0]
        values = torch.tensor(of_tasks).repeat_interleave(len(batch[Columns.OBS]) // len(of_tasks))
        return values.to(self._device, non_blocking=True)

    def tau_of_rows(self, batch: Mapping[str, Any]) -> torch.Tensor | float:
        """The temperature of each row's task, `(N,)`, or that of all."""
        return self.of_rows(batch, [self.config.tau_of(task) for task in batch[TASKS]])

    def save_memory(self, folder: Path) -> None:
        """Writes this rank's shard of the replay memory."""
        save_shard(self.memory, folder, self._learner_index)

    def load_memory(self, folder: Path) -> None:
        """Reads this rank's shard; a rank that there was none of starts with an empty one."""
        load_shard(self.memory, folder, self._learner_index)

    def _minibatches_of(self, module_id: str) -> Minibatches | OneTaskAtATime:
        config = self.config
        spaces, tasks = config.module_spaces(module_id), config.tasks_of_module(module_id)
        columns, batch_size = self.columns_of(module_id), config.train_batch_size_per_learner

        def of(tasks: tuple[str, ...], rows_per_task: int) -> Minibatches:
            return Minibatches(self.memory, spaces, tasks, rows_per_task, columns, self._device)

        if config.minibatch_is_of_one_task and len(tasks) > 1:
            return OneTaskAtATime(self.memory, {task: of((task,), batch_size) for task in tasks})
        return of(tasks, batch_size // len(config.task_set))
