"""Checks that a distilled policy's network and the tasks' networks fit together."""

from collections.abc import Mapping, Sequence
from typing import Literal, get_args

from rllib_distill.errors import DistillError, nearest
from rllib_distill.networks.policy_network import PolicyNetwork

Parameterization = Literal["one_column", "two_column", "shared"]


def check_columns(
    tasks: Sequence[str],
    distilled: PolicyNetwork | None,
    task_networks: Mapping[str, PolicyNetwork],
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
    tasks: Sequence[str], distilled: PolicyNetwork | None, task_networks: Mapping[str, PolicyNetwork]
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


def _check_actions(distilled: PolicyNetwork | None, task_networks: Mapping[str, PolicyNetwork]) -> None:
    for task, network in task_networks.items():
        if distilled is not None and network.num_actions != distilled.num_actions:
            raise DistillError(
                f"All columns must have the same actions; the distilled network has "
                f"{distilled.num_actions} and that of the task {task!r} has {network.num_actions}. "
                f"Give the tasks a common action space."
            )
