"""What learners of task policies share: coefficients by task, a head start, means over valid rows."""

from typing import Any

import torch
from ray.rllib.utils.metrics import ALL_MODULES
from torch import Tensor

from rllib_distill.algorithms.common.columnar_learner import ColumnarLearner
from rllib_distill.algorithms.distral.initial_policy import read_distilled_policy, start_from
from rllib_distill.sampling import Trajectories


class TaskPoliciesLearner(ColumnarLearner):
    """Learns from trajectories of all tasks; `alpha` and `beta` are `(N, 1, 1)`, one of each task."""

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

    def compute_loss_for_module(self, **_: Any) -> Tensor:
        """RLlib asks each learner to have it; modules that shape each other have no loss of their own.

        Raises:
            NotImplementedError: Always.
        """
        raise NotImplementedError("The modules' losses are computed together: override `compute_losses`.")

    def keep_metrics(self, batch: Trajectories, **per_row: Tensor) -> None:
        """Remembers each task's means over the valid rows of `(N, T, B)` values."""
        for name, values in per_row.items():
            self.keep_task_metric(ALL_MODULES, name, batch.tasks, mean_of_rows(values, batch.valid)[:, None])

    def _per_task(self, values: list[float]) -> Tensor:
        return torch.tensor(values, device=self._device).view(-1, 1, 1)


def mean_of_rows(values: Tensor, valid: Tensor) -> Tensor:
    """Each task's mean `(N,)` over the rows `(N, T, B)` that are transitions; 0 where there are none."""
    total: Any = (values * valid).flatten(1).sum(1)
    return total / valid.flatten(1).sum(1).clamp(min=1)


def taken(values: Tensor, actions: Tensor) -> Tensor:
    """The values `(..., A)` of the actions `(...)`."""
    return values.gather(-1, actions.unsqueeze(-1)).squeeze(-1)
