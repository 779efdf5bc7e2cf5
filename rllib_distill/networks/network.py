"""A torso, an LSTM if asked for, a head of Q-values or logits, and if there are values, one of values."""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, pad
from typing_extensions import override

from rllib_distill.errors import DistillError, nearest
from rllib_distill.networks.torsos import Table, Torso


@dataclass(frozen=True)
class NetworkOutputs:
    """A network's outputs for T steps of B environments of each of N tasks.

    Attributes:
        outputs: (N, T, B, A) Q-values or logits; 0 at actions that a task with its own head does not have.
        features: (N, T, B, F), what the heads see: the torso's last hidden layer after its ReLU, or the
            LSTM's h.
        values: (N, T, B, K), K the network's `num_values`.
        states: (N, T, B, S), recurrent states after each row, S the network's `state_size`.
    """

    outputs: Tensor
    features: Tensor
    values: Tensor
    states: Tensor

    def own_values(self, tasks: Sequence[str], order: Sequence[str]) -> Tensor:
        """Picks the value of each of the N tasks, (N, T, B), where a state has one per task, in order."""
        columns = torch.tensor([order.index(task) for task in tasks], device=self.values.device)
        return self.values.take_along_dim(columns.view(-1, 1, 1, 1), dim=-1).squeeze(-1)


class Network(nn.Module):
    """One output per action (Q-values or logits), the features that they are made of, and values.

    Args:
        torso: the module from observations to features.
        num_outputs: A, the number of actions; or that of each task, for a head per task (Rusu et al., 2016).
        num_values: K, how many values a state has; 0 for no value head.
        lstm: U, units of an LSTM between the torso and the heads, or None if nothing is recurrent.
        controller: units of a hidden layer of each head, or None if heads are linear.
        mixed_precision: whether the torso computes in bfloat16, whose range is float32's, so that gradients
            need no scaling. Weights, the LSTM, features, heads and outputs stay float32: the Q-values of a
            state often differ by less than the 3 digits of bfloat16.

    Attributes:
        num_outputs: A, the number of actions of the task that has the most.
        feature_size: F, the number of features.
        state_size: S, the size of the recurrent state: 2U of an LSTM, h before c; 0 without one.
        core: the LSTM's weights, or None.
        value_head: the head of values, or None.
    """

    def __init__(
        self,
        torso: Torso,
        num_outputs: int | Mapping[str, int],
        *,
        num_values: int = 0,
        lstm: int | None = None,
        controller: int | None = None,
        mixed_precision: bool = False,
    ) -> None:
        super().__init__()
        self.num_values = num_values
        self.mixed_precision = mixed_precision
        self.feature_size = lstm or torso.feature_size
        self.state_size = 2 * (lstm or 0)
        self.torso = torso
        self.core = nn.LSTMCell(torso.feature_size, lstm) if lstm else None

        def head(size: int) -> nn.Module:
            return make_head(self.feature_size, size, controller, table=isinstance(torso, Table))

        if isinstance(num_outputs, Mapping):
            self.num_outputs = max(num_outputs.values())
            self.head: nn.Module = PerTask({task: head(size) for task, size in num_outputs.items()})
        else:
            self.num_outputs = num_outputs
            self.head = head(num_outputs)
        self.value_head = head(num_values) if num_values else None

    @override
    def forward(
        self,
        observations: Tensor,
        tasks: Sequence[str] | None = None,
        state: Tensor | None = None,
        is_first: Tensor | None = None,
    ) -> NetworkOutputs:
        """Compute outputs, features, values and states.

        Args:
            observations: (N, T, B, *observation_shape), raw: bool, float, or uint8 (scaled to 0..1).
            tasks: the N tasks, some of this network's; one head for all needs none.
            state: (N, B, S) before the first row; None for zeros.
            is_first: (N, T, B) bool: the row is the first of an episode. The state is zeroed before it.
                None if no row is.

        Raises:
            DistillError: If there is a head per task and the tasks are missing, unknown, or not N.
        """
        device, leading = observations.device.type, observations.shape[:3]
        # In here, not around the loss: the weights that autocast keeps from a forward without gradients
        # would be those of the next one with gradients.
        with torch.autocast(device, torch.bfloat16, enabled=self.mixed_precision):
            features = self.torso(as_floats(observations.flatten(0, 2))).float().unflatten(0, leading)
        with torch.autocast(device, enabled=False):
            states = features[..., :0]
            if self.core is not None:
                features, states = self._unroll(features, state, is_first)
            outputs = self._outputs(features, tasks)
            values = features[..., :0] if self.value_head is None else self.value_head(features)
        return NetworkOutputs(outputs, features, values, states)

    def of_rows(self, observations: Tensor, tasks: Sequence[str] | None = None) -> tuple[Tensor, Tensor]:
        """Compute outputs and features of single steps that nothing came before.

        Args:
            observations: (R, *observation_shape), raw.
            tasks: the tasks of the rows, in equal chunks, task by task. One head for all needs none.

        Returns:
            Outputs (R, A) and features (R, F).

        Raises:
            DistillError: As in `forward`, or if the rows are no equal chunks.
        """
        num_tasks = len(tasks) if tasks else 1
        if len(observations) % num_tasks:
            raise DistillError(
                f"Rows of several tasks must be equal chunks, task by task: got {len(observations)} rows of "
                f"{num_tasks} tasks."
            )
        result = self(observations.reshape(num_tasks, 1, -1, *observations.shape[1:]), tasks)
        return result.outputs.flatten(0, 2), result.features.flatten(0, 2)

    def _outputs(self, features: Tensor, tasks: Sequence[str] | None) -> Tensor:
        """(N, T, B, A) from (N, T, B, F)."""
        if not isinstance(self.head, PerTask):
            outputs: Tensor = self.head(features)
            return outputs
        if not tasks or len(tasks) != len(features):
            raise DistillError(
                f"A network with one head per task needs the names of the tasks; got {tasks!r} for rows of "
                f"{len(features)}. Pass them as `tasks`, or as the batch's 'tasks'."
            )
        parts = [self.head[task](rows) for task, rows in zip(tasks, features.unbind(), strict=True)]
        return torch.stack([pad(part, (0, self.num_outputs - part.shape[-1])) for part in parts])

    def _unroll(
        self, features: Tensor, state: Tensor | None, is_first: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """What the heads see (N, T, B, F), and the states (N, T, B, S)."""
        num_tasks, _, num_envs = leading = features.shape[:3]
        if state is None:
            state = features.new_zeros(num_tasks, num_envs, self.state_size)
        if is_first is None:
            is_first = torch.zeros(leading, dtype=torch.bool, device=features.device)
        assert self.core is not None  # the caller checked
        inputs = linear(features, self.core.weight_ih, self.core.bias_ih + self.core.bias_hh)
        return unroll_lstm(inputs, self.core.weight_hh.T, state, is_first)


class PerTask(nn.Module):
    """One module per task, found by the task's name.

    Torch's ModuleDict takes no name with a dot, nor one that is a method's, such as 'values'. Weights of a
    task 'pong.v5' are called 'of_pong:v5.<weight>' here; names of tasks have no colon.

    Args:
        modules: task -> module.
    """

    def __init__(self, modules: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.tasks = tuple(modules)
        for task, module in modules.items():
            self.add_module(_attribute(task), module)

    def __getitem__(self, task: str) -> nn.Module:
        """Find a task's module.

        Raises:
            DistillError: If the task has none.
        """
        if task not in self.tasks:
            raise DistillError(f"The network has no part for the task {task!r}. {nearest(task, self.tasks)}")
        module: nn.Module = getattr(self, _attribute(task))
        return module


def _attribute(task: str) -> str:
    return "of_" + task.replace(".", ":")


def make_head(
    feature_size: int, num_outputs: int, controller: int | None = None, *, table: bool = False
) -> nn.Module:
    """A linear layer, behind a hidden layer of `controller` units with ReLU if given (Rusu et al., 2016).

    The head of a table is its entries: zeros at first, without a bias, which all states would share.
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


def unroll_lstm(
    inputs: Tensor, recurrent_weight: Tensor, state: Tensor, is_first: Tensor
) -> tuple[Tensor, Tensor]:
    """Run an LSTM (Hochreiter & Schmidhuber, 1997) along the time axis; it forgets where episodes begin.

    With the state set to 0 before each row that is the first of an episode, for every t:
        i, f, g, o = x_t + h_{t-1} W
        c_t = sigmoid(f) c_{t-1} + sigmoid(i) tanh(g)
        h_t = sigmoid(o) tanh(c_t)

    Args:
        inputs: x (N, T, B, 4U), all rows' projected inputs, with the bias.
        recurrent_weight: W, (U, 4U) of one LSTM for all, or (N, U, 4U) of one for each.
        state: (N, B, 2U), h and c before the first row.
        is_first: (N, T, B) bool, whether the row is the first of an episode.

    Returns:
        h of every row (N, T, B, U), and the state after it (N, T, B, 2U).
    """
    hidden, cell = state.chunk(2, dim=-1)
    hiddens, cells = [], []
    # Unbound at once: the gradient of a selected row would be as large as all rows together.
    for projected, first in zip(inputs.unbind(1), is_first.unsqueeze(-1).unbind(1), strict=True):
        hidden, cell = hidden.masked_fill(first, 0.0), cell.masked_fill(first, 0.0)
        gates = projected + hidden @ recurrent_weight
        take, keep, new, show = gates.chunk(4, dim=-1)
        cell = keep.sigmoid() * cell + take.sigmoid() * new.tanh()
        hidden = show.sigmoid() * cell.tanh()
        hiddens.append(hidden)
        cells.append(cell)
    every_hidden = torch.stack(hiddens, dim=1)
    return every_hidden, torch.cat([every_hidden, torch.stack(cells, dim=1)], dim=-1)


@torch.no_grad()
def scale_outputs(network: Network, factor: float) -> None:
    """Multiply the outputs of a network with one head by a factor, in its last layer.

    With 0 for a task's column of Distral its policy starts as pi_0^alpha normalised, eq (8); with 1 - alpha,
    if it has the distilled policy's weights, as pi_0. Its other layers stay as they are: the first step moves
    the last layer at least, the next ones move all.
    """
    *_, output = (layer for layer in network.head.modules() if isinstance(layer, nn.Linear))
    for parameter in output.parameters():
        parameter.mul_(factor)


def as_floats(observations: Tensor) -> Tensor:
    """Raw observations (B, ...) as float32, in the order of their axes in memory; bytes become 0..1."""
    # Frames travel to the device as bytes, and bytes are what is cheap to bring in order.
    inputs = _in_order(observations).float()
    return inputs.div_(255.0) if observations.dtype == torch.uint8 else inputs


def _in_order(observations: Tensor) -> Tensor:
    """Make observations contiguous: convolutions are fastest on channels that are last in memory.

    Stacked frames lie frame by frame; stacking them again takes a fifth of the time of `contiguous()`.
    """
    if observations.ndim != 4 or observations.is_contiguous():
        return observations.contiguous()
    return torch.stack(observations.unbind(-1), dim=-1)
