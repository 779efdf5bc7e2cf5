"""Distral's policies: the distilled policy and one policy per task, in one, two or a shared column."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from rllib_distill.errors import DistillError, nearest
from rllib_distill.networks.network import Network, NetworkOutputs
from rllib_distill.networks.stacked import StackedNetworks

Parameterization = Literal["one_column", "two_column", "shared"]


@dataclass(frozen=True)
class TaskPolicyOutputs:
    """The outputs of N tasks' policies for T steps of B environments each.

    Attributes:
        logits: (N, T, B, A) of pi_i, the tasks' policies.
        distilled_logits: h (N, T, B, A) of pi_0, or None if there is none.
        task_outputs: (N, T, B, A) of the task networks, or None if there are none or they were not computed.
        values: (N, T, B), zeros if the networks have none.
        states: (N, T, B, S), recurrent states after each row.
    """

    logits: Tensor
    distilled_logits: Tensor | None
    task_outputs: Tensor | None
    values: Tensor
    states: Tensor


class TaskPolicies:
    """All tasks' policies as one function of all tasks' observations.

    With one column pi_i = softmax(f). With two, pi_i = softmax(alpha h + beta f), equation (8) of Teh et al.,
    2017. Shared, all tasks have the distilled policy pi_0 = softmax(h), and values of their own.

    Args:
        tasks: names of the tasks.
        distilled: h's network. None with one column: the tasks learn separately. Shared, it has one value
            per task, in their order.
        task_networks: task -> network; none if shared.
        parameterization: which of the three it is.
        column_alpha: what h is multiplied by for each task, used with two columns only.
        column_beta: what the task network's outputs are multiplied by. For Q-values it is beta. For a policy
            gradient it is 1, and the last layer makes beta f: the step of an optimizer that rescales
            gradients does not depend on a factor of the outputs, so beta would multiply the policy's change.

    Attributes:
        state_size: S, of the distilled network's and the task's states together, in this order.

    Raises:
        DistillError: If the networks are not those that the parameterization needs, or do not fit together.
    """

    def __init__(
        self,
        tasks: Sequence[str],
        distilled: Network | None,
        task_networks: Mapping[str, Network],
        *,
        parameterization: Parameterization,
        column_alpha: Mapping[str, float],
        column_beta: Mapping[str, float],
    ) -> None:
        self.tasks = tuple(tasks)
        self.parameterization = parameterization
        self._distilled = distilled
        self._task_networks = dict(task_networks)
        self._column_alpha = dict(column_alpha)
        self._column_beta = dict(column_beta)
        weights = {"alpha": self._column_alpha, "beta": self._column_beta}
        _check_columns(self.tasks, distilled, self._task_networks, parameterization, weights)
        self._distilled_state_size = 0 if distilled is None else distilled.state_size
        task_state_size = self._task_networks[self.tasks[0]].state_size if self._task_networks else 0
        self.state_size = self._distilled_state_size + task_state_size
        self._stacks: dict[tuple[str, ...], StackedNetworks] = {}
        if self._task_networks:
            self._stack(self.tasks)

    def __call__(
        self, observations: Tensor, tasks: Sequence[str], state: Tensor, is_first: Tensor
    ) -> TaskPolicyOutputs:
        """Compute the tasks' policies.

        Args:
            observations: (N, T, B, *observation_shape), raw.
            tasks: the N tasks of the rows, some of this object's.
            state: (N, B, S) before the first row.
            is_first: (N, T, B) bool, whether the row is the first of an episode, before which the
                state is zeroed.

        Raises:
            DistillError: If a task is unknown, or there are not as many as observations are of.
        """
        self._check_tasks(tasks, observations)
        distilled_state, task_state = self._split(state)
        distilled: NetworkOutputs | None = None
        if self._distilled is not None:
            distilled = self._distilled(observations, None, distilled_state, is_first)
        if not self._task_networks:
            assert distilled is not None  # checked at construction
            return self._shared(distilled, tasks)
        own = self._stack(tuple(tasks))(observations, task_state, is_first)
        h = None if distilled is None else distilled.outputs
        beta = own.outputs.new_tensor([self._column_beta[task] for task in tasks]).view(-1, 1, 1, 1)
        logits = beta * own.outputs
        if self.parameterization == "two_column":
            assert h is not None  # checked at construction
            alpha = h.new_tensor([self._column_alpha[task] for task in tasks]).view(-1, 1, 1, 1)
            logits = torch.addcmul(logits, alpha, h)
        states = own.states if distilled is None else torch.cat([distilled.states, own.states], dim=-1)
        return TaskPolicyOutputs(logits, h, own.outputs, _first_value(own), states)

    def distilled_only(
        self, observations: Tensor, tasks: Sequence[str], state: Tensor, is_first: Tensor
    ) -> TaskPolicyOutputs:
        """Compute the distilled policy alone, as if it were each task's policy.

        Args:
            observations: (N, T, B, *observation_shape), raw.
            tasks: the N tasks of the rows, some of this object's.
            state: (N, B, S) before the first row.
            is_first: (N, T, B) bool, whether the row is the first of an episode, before which the
                state is zeroed.

        Returns:
            `logits` are h. The task's part of the states stays as it came. Values are zeros, unless the
            distilled network makes them.

        Raises:
            DistillError: If there is no distilled policy, a task is unknown, or there are not as many as
                observations are of.
        """
        if self._distilled is None:
            raise DistillError("There is no distilled policy: the tasks learn separately. Ask for their own.")
        self._check_tasks(tasks, observations)
        distilled_state, task_state = self._split(state)
        distilled = self._distilled(observations, None, distilled_state, is_first)
        if not self._task_networks:
            return self._shared(distilled, tasks)
        h = distilled.outputs
        untouched = task_state.unsqueeze(1).expand(-1, h.shape[1], -1, -1)
        states = torch.cat([distilled.states, untouched], dim=-1)
        return TaskPolicyOutputs(h, h, None, h.new_zeros(h.shape[:3]), states)

    def _shared(self, distilled: NetworkOutputs, tasks: Sequence[str]) -> TaskPolicyOutputs:
        """The distilled policy for all tasks, each of which has its own column of the values."""
        h = distilled.outputs
        return TaskPolicyOutputs(h, h, None, distilled.own_values(tasks, self.tasks), distilled.states)

    def _split(self, state: Tensor) -> tuple[Tensor, Tensor]:
        return state[..., : self._distilled_state_size], state[..., self._distilled_state_size :]

    def _stack(self, tasks: tuple[str, ...]) -> StackedNetworks:
        """The networks of these tasks, side by side; those of all tasks and of the last subset are kept."""
        if tasks not in self._stacks:
            every = self._stacks.get(self.tasks)
            self._stacks = {} if every is None else {self.tasks: every}
            self._stacks[tasks] = StackedNetworks([self._task_networks[task] for task in tasks], tasks)
        return self._stacks[tasks]

    def _check_tasks(self, tasks: Sequence[str], observations: Tensor) -> None:
        for task in tasks:
            if task not in self.tasks:
                raise DistillError(f"There is no policy for the task {task!r}. {nearest(task, self.tasks)}")
        if len(tasks) != len(observations):
            raise DistillError(
                f"Observations (N, T, B, ...) must be of as many tasks as are named; got {len(observations)} "
                f"and {tuple(tasks)}."
            )


def _first_value(outputs: NetworkOutputs) -> Tensor:
    """The values (N, T, B) of networks with one value, or zeros if they have none."""
    if not outputs.values.shape[-1]:
        return outputs.outputs.new_zeros(outputs.outputs.shape[:3])
    return outputs.values[..., 0]


def _check_columns(
    tasks: Sequence[str],
    distilled: Network | None,
    task_networks: Mapping[str, Network],
    parameterization: str,
    weights: Mapping[str, Mapping[str, float]],
) -> None:
    """Raise a DistillError if these are not what `TaskPolicies` asks for."""
    if parameterization not in get_args(Parameterization):
        allowed = nearest(str(parameterization), get_args(Parameterization))
        raise DistillError(f"Unknown parameterization {parameterization!r}. {allowed}")
    if not tasks:
        raise DistillError("Task policies need at least one task; got none.")
    if distilled is None and parameterization != "one_column":
        raise DistillError(
            f"The parameterization {parameterization!r} needs a distilled policy; got None. "
            f"Tasks that learn separately are 'one_column'."
        )
    if parameterization == "shared":
        _check_shared(tasks, distilled, task_networks)
        return
    _check_names(tasks, task_networks, "network")
    for name, column in weights.items():
        _check_names(tasks, column, name)
    _check_actions(distilled, task_networks)


def _check_shared(
    tasks: Sequence[str], distilled: Network | None, task_networks: Mapping[str, Network]
) -> None:
    if task_networks:
        raise DistillError(
            f"The parameterization 'shared' has no networks of the tasks; got some for "
            f"{', '.join(task_networks)}. With networks of their own they are 'one_column' or 'two_column'."
        )
    if distilled is not None and distilled.num_values != len(tasks):
        raise DistillError(
            f"Shared by {len(tasks)} tasks, the distilled network must have one value per task; its "
            f"num_values is {distilled.num_values}. Build it with num_values={len(tasks)}."
        )


def _check_names(tasks: Sequence[str], given: Mapping[str, object], what: str) -> None:
    missing, unknown = set(tasks) - set(given), set(given) - set(tasks)
    if missing or unknown:
        raise DistillError(
            f"Task policies need one {what} per task ({', '.join(tasks)}); got those of "
            f"{', '.join(given) or 'none'}."
        )


def _check_actions(distilled: Network | None, task_networks: Mapping[str, Network]) -> None:
    for task, network in task_networks.items():
        if distilled is not None and network.num_outputs != distilled.num_outputs:
            raise DistillError(
                f"All columns must have the same actions; the distilled network has "
                f"{distilled.num_outputs} and that of the task {task!r} has {network.num_outputs}. "
                f"Give the tasks a common action space."
            )
