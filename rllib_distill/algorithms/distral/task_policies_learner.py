"""What learners of task policies share: coefficients by task, and a head start."""

from torch import Tensor, tensor

from rllib_distill.algorithms.distral.task_policies_config import read_distilled_policy, start_from
from rllib_distill.core.learner import MultiTaskLearner


class TaskPoliciesMixin(MultiTaskLearner):
    """Learns from batches of all tasks; `alpha` and `beta` are `(N, 1, 1)`, one of each task."""

    def build(self) -> None:
        """As any learner's."""
        super().build()
        config, tasks = self.config, tuple(self.config.tasks)
        self.alpha = self._per_task([config.alpha_of(task) for task in tasks])
        self.beta = self._per_task([config.beta_of(task) for task in tasks])

    def set_first_weights(self) -> None:
        """As `init_from` says."""
        if self.config.starts_from_another:
            weights = read_distilled_policy(self.config.init_from)
            for module_id in self.module.keys():  # no mapping
                start_from(weights, self.module[module_id], self.config.initial_head_scale(module_id))

    def _per_task(self, values: list[float]) -> Tensor:
        return tensor(values, device=self._device).view(-1, 1, 1)
