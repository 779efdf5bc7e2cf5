"""A torso that tasks share, with one head per task."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn.functional import pad

from rllib_distill.errors import DistillError
from rllib_distill.networks.heads import PerTask, make_head
from rllib_distill.networks.network import Network
from rllib_distill.networks.torsos import Table, Torso


class MultiHeadNetwork(Network):
    """Each task has an output layer of its own, with as many outputs as it has actions (Rusu et al., 2016).

    Args:
        torso: the tasks' common part.
        num_actions: A_i of each task.
        controller: units of a hidden layer of each head, or None: heads are linear.
        mixed_precision: see `Network`.

    Attributes:
        num_outputs: A, the largest number of actions.
    """

    head: PerTask

    def __init__(
        self,
        torso: Torso,
        num_actions: Mapping[str, int],
        *,
        controller: int | None = None,
        mixed_precision: bool = False,
    ) -> None:
        table = isinstance(torso, Table)
        heads = {
            task: make_head(torso.feature_size, n, controller, table=table) for task, n in num_actions.items()
        }
        super().__init__(torso, PerTask(heads), mixed_precision=mixed_precision)
        self.num_outputs = max(num_actions.values())

    def outputs(self, features: Tensor, tasks: Sequence[str] | None) -> Tensor:
        """The outputs of every row by its task's head.

        Args:
            features: (B, F), equal chunks, task by task.
            tasks: their order; some of this network's, at least one.

        Returns:
            (B, A); 0 at the actions that a task does not have.

        Raises:
            DistillError: If there are no tasks, one is unknown, or the rows are no equal chunks.
        """
        if not tasks or len(features) % len(tasks):
            raise DistillError(
                f"A network with one head per task needs the tasks of its rows, in equal chunks: got tasks "
                f"{tasks!r} for {len(features)} rows. Pass the names as `tasks`, or as the batch's 'tasks'."
            )
        chunks = features.chunk(len(tasks))
        parts = [self._outputs_of(task, rows) for task, rows in zip(tasks, chunks, strict=True)]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _outputs_of(self, task: str, features: Tensor) -> Tensor:
        outputs: Tensor = self.head[task](features)
        missing = self.num_outputs - outputs.shape[-1]
        return pad(outputs, (0, missing)) if missing else outputs
