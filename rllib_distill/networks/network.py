"""A torso with one head for all tasks, or with one head per task."""

from collections import OrderedDict
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from rllib_distill.errors import DistillError, nearest
from rllib_distill.networks.torsos import Table, Torso


def make_head(
    feature_size: int, num_outputs: int, controller: int | None = None, *, table: bool = False
) -> nn.Module:
    """A linear layer, behind a hidden layer of `controller` units with ReLU if given (Rusu et al., 2016).

    A table's is its entries: zeros at first, and no bias, which all states would share.
    """
    if table:
        entries = nn.Linear(feature_size, num_outputs, bias=False)
        nn.init.zeros_(entries.weight)
        return entries
    if controller is None:
        return nn.Linear(feature_size, num_outputs)
    return nn.Sequential(
        OrderedDict(
            controller=nn.Linear(feature_size, controller),
            relu=nn.ReLU(inplace=True),
            output=nn.Linear(controller, num_outputs),
        )
    )


class PerTask(nn.Module):
    """One module per task, found by the task's name.

    Torch's ModuleDict takes no name with a dot, nor one that is a method's, such as 'values'. Weights of a
    task 'pong.v5' are called 'of_pong:v5.<weight>' here; names of tasks have no colon.

    Args:
        modules: by task.
    """

    def __init__(self, modules: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.tasks = tuple(modules)
        for task, module in modules.items():
            self.add_module(_attribute(task), module)

    def __getitem__(self, task: str) -> nn.Module:
        """The task's module.

        Raises:
            DistillError: If there is none.
        """
        if task not in self.tasks:
            raise DistillError(f"The network has no part for the task {task!r}. {nearest(task, self.tasks)}")
        module: nn.Module = getattr(self, _attribute(task))
        return module


def _attribute(task: str) -> str:
    return "of_" + task.replace(".", ":")


class Network(nn.Module):
    """One output per action (Q-values or logits) and the features that they are made of.

    Attributes:
        feature_size: F, units of the torso's last hidden layer.
        mixed_precision: whether the torso computes in bfloat16, whose range is float32's, so that gradients
            need no scaling. Weights, features, outputs and the head stay float32: the Q-values of a state
            often differ by less than the 3 digits of bfloat16.
    """

    def __init__(self, torso: Torso, head: nn.Module, *, mixed_precision: bool = False) -> None:
        super().__init__()
        self.feature_size = torso.feature_size
        self.mixed_precision = mixed_precision
        self.torso = torso
        self.head = head

    def forward(self, observations: Tensor, tasks: Sequence[str] | None = None) -> tuple[Tensor, Tensor]:
        """Compute outputs and features.

        Args:
            observations: (B, *observation_shape), raw: bool, float, or uint8 (scaled from 0..255 to 0..1).
            tasks: whose rows these are, in equal chunks, task by task. One head for all needs none.

        Returns:
            Outputs (B, A) and features (B, F), the torso's last hidden layer after its ReLU.
        """
        device = observations.device.type
        # In here, not around the loss: the weights that autocast keeps from a forward without gradients
        # would be those of the next one with gradients.
        with torch.autocast(device, torch.bfloat16, enabled=self.mixed_precision):
            features = self.torso(as_floats(observations)).float()
        with torch.autocast(device, enabled=False):
            return self.outputs(features, tasks), features

    def outputs(self, features: Tensor, tasks: Sequence[str] | None) -> Tensor:
        """The head's (B, A) from features (B, F)."""
        outputs: Tensor = self.head(features)
        return outputs


def as_floats(observations: Tensor) -> Tensor:
    """Raw observations (B, ...) as float32, in the order of their axes in memory; bytes become 0..1."""
    # Frames travel to the device as bytes, and bytes are what is cheap to bring in order.
    inputs = _in_order(observations).float()
    return inputs.div_(255.0) if observations.dtype == torch.uint8 else inputs


def _in_order(observations: Tensor) -> Tensor:
    """Contiguous: convolutions are fastest on channels last in memory, but stacked frames lie frame by frame.

    Stacking them once more takes a fifth of the time that `contiguous()` does.
    """
    if observations.ndim != 4 or observations.is_contiguous():
        return observations.contiguous()
    return torch.stack(observations.unbind(-1), dim=-1)


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
