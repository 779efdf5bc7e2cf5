"""The learner that draws its minibatches from a replay buffer of every task."""

from pathlib import Path
from typing import Any

from rllib_distill.core.learner import MultiTaskLearner
from rllib_distill.replay import Batch, Minibatches, OneTaskAtATime, ReplayBuffer


class ReplayLearner(MultiTaskLearner):
    """Override `loss_of_module` (or `compute_losses`) and say which `columns` it reads.

    New fragments go into this rank's shard of the replay buffer. Metrics are those of the last minibatch (of
    the last few where each is of one task).
    """

    store: ReplayBuffer
    columns: tuple[str, ...] = ("observations",)

    def make_store(self, num_env_runners: int) -> ReplayBuffer:
        """This rank's shard, and what draws every module's minibatches from it."""
        config = self.config
        self.store = ReplayBuffer(
            config.task_set,
            capacity=-(-int(config.replay_capacity) // max(1, config.num_learners)),
            num_env_runners=num_env_runners,
            seed=None if config.seed is None else config.seed + self._learner_index,
            **self.buffer_options(),
        )
        self.minibatches = self.make_minibatches()
        return self.store

    def buffer_options(self) -> dict[str, Any]:
        """What else the replay buffer is made with."""
        return {}

    def make_minibatches(self) -> dict[str, Minibatches | OneTaskAtATime]:
        """What draws minibatches, by module id."""
        return {module_id: self._minibatches_of(module_id) for module_id in self.module.keys()}  # no mapping

    def draw_minibatch(self) -> dict[str, Batch]:
        """Module id -> its minibatch."""
        return {module_id: minibatch.draw() for module_id, minibatch in self.minibatches.items()}

    @property
    def num_logged_minibatches(self) -> int:
        """One, or as many as make every task likely to have its turn."""
        return len(self.config.task_set) if self.config.minibatch_is_of_one_task else 1

    def columns_of(self, module_id: str) -> tuple[str, ...]:
        """Columns that the module's loss reads, beside those that every batch of sequences has."""
        return self.columns

    @property
    def num_transitions(self) -> int:
        """In this rank's shard, of the task that has the fewest; 0 while no minibatch could be drawn."""
        sequences = self.config.sequences
        if sequences is not None and not self.store.num_sequences(sequences.length):
            return 0
        return len(self.store)

    def save_store(self, folder: Path) -> None:
        """Writes this rank's shard of the replay buffer."""
        folder.mkdir(parents=True, exist_ok=True)
        self.store.save(self._shard(folder))

    def load_store(self, folder: Path) -> None:
        """Reads this rank's shard; a rank that there was none of starts with an empty one."""
        if self._shard(folder).exists():
            self.store.load(self._shard(folder))

    def _shard(self, folder: Path) -> Path:
        return folder / f"rank_{self._learner_index}.pkl"

    def _minibatches_of(self, module_id: str) -> Minibatches | OneTaskAtATime:
        config = self.config
        spaces, tasks = config.module_spaces(module_id), config.tasks_of_module(module_id)
        columns = self.columns_of(module_id)

        def of(tasks: tuple[str, ...], num_tasks: int) -> Minibatches:
            return Minibatches(
                self.store,
                spaces,
                tasks,
                config.draws_per_task(num_tasks),
                columns,
                self._device,
                sequences=config.sequences,
            )

        if config.minibatch_is_of_one_task and len(tasks) > 1:
            return OneTaskAtATime(self.store, {task: of((task,), 1) for task in tasks})
        return of(tasks, len(config.task_set))
