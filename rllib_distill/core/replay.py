"""Learning from replay buffers: settings, and the learner that draws its minibatches from them."""

from pathlib import Path
from typing import Any, Literal, Self

from ray.rllib.utils.from_config import NotProvided
from typing_extensions import override

from rllib_distill.core.config import MultiTaskConfig
from rllib_distill.core.learner import MultiTaskLearner, num_sources
from rllib_distill.errors import DistillError, check_bool, check_number
from rllib_distill.replay import Batch, Minibatches, OneTaskAtATime, ReplayBuffer, Sequences
from rllib_distill.tasks import SharedSpaces


class ReplayConfig(MultiTaskConfig):
    """Base of the configs of algorithms with replay; tasks have equal shares of a minibatch."""

    rows_per_task = 32
    """Rows of each task in a minibatch where `train_batch_size_per_learner` is not given."""

    def __init__(self, algo_class: type | None = None):
        """Sets the defaults."""
        super().__init__(algo_class=algo_class)
        self.train_batch_size_per_learner: int | None = None  # None: `rows_per_task` of each task
        self.one_task_per_minibatch = False
        self.replay_capacity = 100_000  # transitions per task
        self.training_intensity = 2.0  # sampled rows per env step
        self.num_steps_sampled_before_learning_starts = 1_000
        self.sequence_length: int | None = None  # None: `rollout_fragment_length`
        self.burn_in_len = 0

    @override
    def training(
        self,
        *,
        heads: Literal["shared", "per_task"] = NotProvided,
        one_task_per_minibatch: bool = NotProvided,
        replay_capacity: int = NotProvided,
        training_intensity: float = NotProvided,
        num_steps_sampled_before_learning_starts: int = NotProvided,
        sequence_length: int | None = NotProvided,
        burn_in_len: int = NotProvided,
        **kwargs: Any,
    ) -> Self:
        """Sets the training related configuration.

        Args:
            heads: Output layers of a network of several tasks: one `shared` layer for the union of their
                actions, with those that a task lacks masked (default, as in Actor-Mimic), or one `per_task`
                for its own actions (as in Policy Distillation). The network option `controller` gives each
                head a hidden layer.
            one_task_per_minibatch: Whether all rows of a minibatch come from one task, drawn anew each
                time; by default each task has an equal share.
            replay_capacity: Transitions per task in all learners' replay buffers together (default 100,000).
            training_intensity: Rows trained on per env step sampled (default 2). More rows learn more from
                each step and take longer; DQN's 32 rows every 4 steps are an intensity of 8.
            num_steps_sampled_before_learning_starts: Env steps of every task that all learners' replay
                buffers together must hold before the first update (default 1,000).
            sequence_length: Rows of a replayed sequence, where a network is recurrent; at least as many as a
                fragment has, `rollout_fragment_length`, which are the default (None). Sequences begin where
                fragments do, with the recurrent state that the network had when it acted there.
            burn_in_len: Rows at a sequence's beginning that only warm up the recurrent state (default 0), as
                the stored one is of older weights (Kapturowski et al., 2019).
            kwargs: See `MultiTaskConfig.training`. `train_batch_size_per_learner` counts the rows of one
                minibatch of one learner, all tasks together (default: 32 of each).

        Returns:
            This config.
        """
        super().training(**kwargs)
        return self._set_given(
            {
                "heads": heads,
                "one_task_per_minibatch": one_task_per_minibatch,
                "replay_capacity": replay_capacity,
                "training_intensity": training_intensity,
                "num_steps_sampled_before_learning_starts": num_steps_sampled_before_learning_starts,
                "sequence_length": sequence_length,
                "burn_in_len": burn_in_len,
            }
        )

    @property
    def minibatch_is_of_one_task(self) -> bool:
        """Whether all rows of a minibatch are of one task, where a module has several."""
        return self.one_task_per_minibatch and len(self.policies) < len(self.tasks)

    @property
    def draws_sequences(self) -> bool:
        """Whether minibatches consist of sequences, which recurrent networks need."""
        return self.is_recurrent

    @property
    def sequences(self) -> Sequences | None:
        """How sequences are drawn; None where minibatches consist of rows."""
        if not self.draws_sequences:
            return None
        length = self.sequence_length
        if length is None:
            length = int(self.get_rollout_fragment_length())
        return Sequences(length, self.burn_in_len)

    def draws_per_task(self, num_tasks: int) -> int:
        """Rows, or sequences, of each task in a minibatch of `num_tasks` tasks."""
        rows = int(self.train_batch_size_per_learner or 0) // num_tasks
        return rows if self.sequences is None else rows // self.sequences.length

    @override
    def validate(self) -> None:
        if self.learns_on_policy:  # nothing is replayed
            super().validate()
            return
        self.check_counts(("rollout_fragment_length",))
        if self.sequence_length is not None:
            self.check_counts(("sequence_length",))
        check_number("burn_in_len", self.burn_in_len, least=0, integer=True)
        if self._train_batch_size_per_learner is None:  # the property would fall back on `train_batch_size`
            self.train_batch_size_per_learner = self._default_rows() * (
                1 if self.minibatch_is_of_one_task else len(self.task_set)
            )
        check_number("training_intensity", self.training_intensity, above=0)
        check_bool("one_task_per_minibatch", self.one_task_per_minibatch)
        self.check_counts(
            ("train_batch_size_per_learner", "replay_capacity", "num_steps_sampled_before_learning_starts")
        )
        super().validate()
        self._check_sizes()
        if not self.in_evaluation:  # RLlib gives that fragments of one step
            self._check_sequences()

    def _default_rows(self) -> int:
        """Default number of rows of each task in a minibatch, in whole sequences where these are drawn."""
        if self.sequences is None:
            return self.rows_per_task
        return max(1, round(self.rows_per_task / self.sequences.length)) * self.sequences.length

    def _check_sizes(self) -> None:
        """Raises DistillError unless counts fit each other."""
        batch_size, num_tasks = int(self.train_batch_size_per_learner or 0), len(self.tasks)
        if batch_size % num_tasks and not self.minibatch_is_of_one_task:
            raise DistillError(
                f"train_batch_size_per_learner is {batch_size}; every task gets an equal share, so with "
                f"{num_tasks} tasks it must be a multiple of {num_tasks}, "
                f"e.g. {max(1, round(batch_size / num_tasks)) * num_tasks}."
            )
        rows_needed = 2 * self.num_envs_per_task * max(1, self.num_env_runners) * max(1, self.num_learners)
        if self.replay_capacity < max(rows_needed, self.num_steps_sampled_before_learning_starts):
            raise DistillError(
                f"replay_capacity is {self.replay_capacity}; it must hold "
                f"num_steps_sampled_before_learning_starts ({self.num_steps_sampled_before_learning_starts}) "
                f"and two steps of every environment ({rows_needed})."
            )

    def _check_sequences(self) -> None:
        """Raises DistillError unless minibatches can hold whole sequences, and the buffer enough of them."""
        sequences = self.sequences
        if sequences is None:
            for name, default in (("sequence_length", None), ("burn_in_len", 0)):
                if getattr(self, name) != default:
                    raise DistillError(
                        f"{name} is {getattr(self, name)!r}; it is for recurrent networks, which learn from "
                        "sequences: set network: {..., lstm: units}, or remove it."
                    )
            return
        check_number("burn_in_len", sequences.burn_in, least=0, most=sequences.length - 1, integer=True)
        num_tasks = 1 if self.minibatch_is_of_one_task else len(self.tasks)
        rows, of_all = int(self.train_batch_size_per_learner or 0), sequences.length * num_tasks
        if rows % of_all:
            raise DistillError(
                f"train_batch_size_per_learner is {rows}; minibatches are whole sequences of "
                f"{sequences.length} rows ({num_tasks} tasks), so it must be a multiple of {of_all}."
            )
        fragment, num_learners = int(self.get_rollout_fragment_length()), max(1, self.num_learners)
        if sequences.length < fragment:
            raise DistillError(
                f"sequence_length is {sequences.length}; sequences begin where fragments do, so it must be "
                f"at least rollout_fragment_length ({fragment}): other rows would never be replayed."
            )
        # Sequences begin where fragments do; between the fragments of one there may be gaps, which take rows.
        num_fragments = -(-sequences.length // fragment)
        kept = num_fragments * fragment * (1 if num_fragments == 1 else 2)
        num_rings = num_learners * num_sources(1 % num_learners, num_learners, self.num_env_runners)
        needed = kept * self.num_envs_per_task * num_rings
        if self.replay_capacity < needed:
            raise DistillError(
                f"replay_capacity is {self.replay_capacity}; sequences of {sequences.length} rows go over "
                f"whole fragments of every environment, so it must be at least {needed}."
            )


class ReplayLearner(MultiTaskLearner):
    """Learns from minibatches that are drawn from this rank's shard of the replay buffer.

    Subclasses override `loss_of_module` (or `compute_losses`) and say which `columns` it reads. Metrics are
    those of the last minibatch, or of the last few where each is of one task.
    """

    store: ReplayBuffer
    columns: tuple[str, ...] = ("observations",)

    @override
    def make_store(self, num_env_runners: int) -> ReplayBuffer:
        """Makes this rank's shard, and what draws every module's minibatches from it."""
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
        """Further arguments of the replay buffer."""
        return {}

    def make_minibatches(self) -> dict[str, Minibatches | OneTaskAtATime]:
        """Makes what draws minibatches, by module id."""
        return {module_id: self._minibatches_of(module_id) for module_id in self.module.keys()}  # no mapping

    @override
    def draw_minibatch(self) -> dict[str, Batch]:
        """Draws every module's minibatch: module id -> batch."""
        return {module_id: minibatch.draw() for module_id, minibatch in self.minibatches.items()}

    @property
    @override
    def num_logged_minibatches(self) -> int:
        """One, or as many as there are tasks where each minibatch is of one task."""
        return len(self.config.task_set) if self.config.minibatch_is_of_one_task else 1

    def columns_of(self, module_id: str) -> tuple[str, ...]:
        """Columns that the module's loss reads, beside those that every batch of sequences has."""
        return self.columns

    @property
    def num_transitions(self) -> int:
        """Transitions in this shard of the task that has the fewest; 0 while nothing could be drawn."""
        sequences = self.config.sequences
        if sequences is not None and not self.store.num_sequences(sequences.length):
            return 0
        return len(self.store)

    @override
    def save_store(self, folder: Path) -> None:
        """Writes this rank's shard of the replay buffer."""
        folder.mkdir(parents=True, exist_ok=True)
        self.store.save(self._shard(folder))

    @override
    def load_store(self, folder: Path) -> None:
        """Reads this rank's shard; a rank without one in the checkpoint starts with an empty buffer."""
        if self._shard(folder).exists():
            self.store.load(self._shard(folder))

    def _shard(self, folder: Path) -> Path:
        return folder / f"rank_{self._learner_index}.pkl"

    def minibatches_of_tasks(
        self, spaces: SharedSpaces, tasks: tuple[str, ...], num_tasks: int, columns: tuple[str, ...]
    ) -> Minibatches:
        """Makes what draws rows or sequences, as the config says, of some tasks side by side.

        Args:
            spaces: The tasks' common spaces.
            tasks: The tasks, in order.
            num_tasks: Number of tasks that share `train_batch_size_per_learner`.
            columns: Columns to draw.
        """
        config = self.config
        size = config.draws_per_task(num_tasks)
        return Minibatches(self.store, spaces, tasks, size, columns, self._device, sequences=config.sequences)

    def _minibatches_of(self, module_id: str) -> Minibatches | OneTaskAtATime:
        config = self.config
        spaces, tasks = config.module_spaces(module_id), config.tasks_of_module(module_id)
        columns = self.columns_of(module_id)
        if config.minibatch_is_of_one_task and len(tasks) > 1:
            alone = {task: self.minibatches_of_tasks(spaces, (task,), 1, columns) for task in tasks}
            return OneTaskAtATime(self.store, alone)
        return self.minibatches_of_tasks(spaces, tasks, len(config.task_set), columns)
