"""Settings of algorithms that learn from replay memories, one network for several tasks or one for each."""

from typing import Any, Literal, Self

from ray.rllib.utils.from_config import NotProvided

from rllib_distill.core.checks import check_bool, check_number
from rllib_distill.core.config import MultiTaskConfig, check_counts
from rllib_distill.errors import DistillError


class ReplayConfig(MultiTaskConfig):
    """Base of the configs of replay-based algorithms; minibatches have equal shares of their tasks."""

    rows_per_task = 32
    """Share of each task in a minibatch where `train_batch_size_per_learner` is not given."""

    def __init__(self, algo_class: type | None = None):
        """Sets the defaults."""
        super().__init__(algo_class=algo_class)
        self.train_batch_size_per_learner: int | None = None  # `rows_per_task` of each task in it
        self.one_task_per_minibatch = False
        self.replay_capacity = 100_000  # transitions per task
        self.replay_ratio = 2.0  # sampled rows per env step
        self.num_steps_per_task_before_learning = 1_000

    def training(
        self,
        *,
        heads: Literal["shared", "per_task"] = NotProvided,
        one_task_per_minibatch: bool = NotProvided,
        replay_capacity: int = NotProvided,
        replay_ratio: float = NotProvided,
        num_steps_per_task_before_learning: int = NotProvided,
        **kwargs: Any,
    ) -> Self:
        """Sets the training related configuration.

        Args:
            heads: Of a network of several tasks: one `shared` output layer for the union of their actions,
                with those that a task lacks masked (default; Actor-Mimic's), or one `per_task` with its own
                actions, picked by the task's name (Policy Distillation's). The network option `controller`
                gives each head a hidden layer.
            one_task_per_minibatch: Whether a minibatch of such a network comes from one task, drawn anew each
                time, or has an equal share of each (default).
            replay_capacity: Transitions per task in all replay memories together (default 100,000).
            replay_ratio: Rows sampled per env step (default 2). More learns more from each step and takes
                longer per step; DQN's classic 32 rows every 4 steps is 8.
            num_steps_per_task_before_learning: Env steps that every replay memory must hold of every task
                before the first update (default 1,000).
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
                "replay_ratio": replay_ratio,
                "num_steps_per_task_before_learning": num_steps_per_task_before_learning,
            }
        )

    @property
    def minibatch_is_of_one_task(self) -> bool:
        """Whether all rows of a minibatch are of one task; modules of one task each draw side by side."""
        return self.one_task_per_minibatch and len(self.policies) < len(self.tasks)

    def validate(self) -> None:
        """Checks every value before anything starts.

        Raises:
            DistillError: What is wrong, the value, what is allowed.
        """
        if self._train_batch_size_per_learner is None:  # the property would fall back on `train_batch_size`
            self.train_batch_size_per_learner = self.rows_per_task * (
                1 if self.minibatch_is_of_one_task else len(self.task_set)
            )
        check_number("replay_ratio", self.replay_ratio, above=0)
        check_bool("one_task_per_minibatch", self.one_task_per_minibatch)
        check_counts(
            self, ("train_batch_size_per_learner", "replay_capacity", "num_steps_per_task_before_learning")
        )
        super().validate()
        self._check_sizes()

    def _check_sizes(self) -> None:
        """Counts fit each other."""
        batch_size, num_tasks = int(self.train_batch_size_per_learner or 0), len(self.tasks)
        if batch_size % num_tasks and not self.minibatch_is_of_one_task:
            raise DistillError(
                f"train_batch_size_per_learner is {batch_size}; every task gets an equal share, so with "
                f"{num_tasks} tasks it must be a multiple of {num_tasks}, "
                f"e.g. {max(1, round(batch_size / num_tasks)) * num_tasks}."
            )
        rows_needed = 2 * self.num_envs_per_task * max(1, self.num_env_runners) * max(1, self.num_learners)
        if self.replay_capacity < max(rows_needed, self.num_steps_per_task_before_learning):
            raise DistillError(
                f"replay_capacity is {self.replay_capacity}; it must hold num_steps_per_task_before_learning "
                f"({self.num_steps_per_task_before_learning}) and two steps of every environment "
                f"({rows_needed})."
            )
