"""The experts of all tasks, checked against the tasks, and the one place where states get their labels."""

import logging
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from rllib_distill.errors import DistillError, nearest
from rllib_distill.experts.expert import Expert, ExpertInfo, Label, env_name
from rllib_distill.tasks import Task, TaskSet

logger = logging.getLogger(__name__)


class ExpertBank(Mapping[str, Expert]):
    """One expert per task, in the order of the tasks.

    Args:
        experts: task name -> expert.
        tasks: the tasks.

    Raises:
        DistillError: If a task has no expert, an expert has no task, or an expert's observations or actions
            do not fit those of its task.
    """

    def __init__(self, experts: Mapping[str, Expert], tasks: TaskSet) -> None:
        _check_names(experts, tasks)
        self._experts = {name: experts[name] for name in tasks}
        for name, task in tasks.items():
            _warn_of_another_env(name, experts[name].info.env, env_name(task.spec.env))
        self._columns = {name: _columns(name, experts[name].info, task) for name, task in tasks.items()}

    @classmethod
    def load(cls, paths: Mapping[str, str | Path], tasks: TaskSet) -> "ExpertBank":
        """Load one expert per task.

        Args:
            paths: task name -> path of its expert's .safetensors file.
            tasks: the tasks.

        Raises:
            DistillError: As `Expert.load` and the constructor.
        """
        _check_names(paths, tasks)  # before any file is read
        return cls({name: Expert.load(path) for name, path in paths.items()}, tasks)

    def label(
        self,
        task: str,
        observations: NDArray[np.generic] | torch.Tensor,
        state: torch.Tensor | None = None,
        is_first: NDArray[np.bool_] | None = None,
    ) -> Label[NDArray[np.float32]]:
        """Compute the labels of a task's states in one forward pass.

        Args:
            task: its name.
            observations: (T, B, *obs), raw and unpadded, as the task's environment gives them.
            state: (B, S), a recurrent expert's state before the first step; None: zeros.
            is_first: (T, B), the step is the first of an episode; None: none is.

        Returns:
            The label; its outputs are those of the task's own actions in the task's own order.
        """
        # Arrays from the object store are read-only, which torch warns about; only those are copied.
        if isinstance(observations, np.ndarray):
            observations = torch.from_numpy(np.require(observations, requirements="W"))
        first = None if is_first is None else torch.from_numpy(np.require(is_first, requirements="W"))
        label = self._experts[task].label(observations, state, first)
        columns = self._columns[task]
        outputs = label.outputs if columns is None else label.outputs.index_select(-1, columns)
        return Label(outputs.numpy(), label.features.numpy(), label.state)

    def __getitem__(self, task: str) -> Expert:
        """Return the expert of a task."""
        return self._experts[task]

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names of the tasks."""
        return iter(self._experts)

    def __len__(self) -> int:
        """Return the number of experts."""
        return len(self._experts)


def _check_names(experts: Mapping[str, object], tasks: TaskSet) -> None:
    if not isinstance(experts, Mapping):
        raise DistillError(
            f"Experts must map each task to the path of its .safetensors file; got {experts!r}."
        )
    for name in experts:
        if name not in tasks:
            raise DistillError(f"Expert {name!r} belongs to no task. {nearest(str(name), tasks)}")
    missing = [name for name in tasks if name not in experts]
    if missing:
        raise DistillError(
            f"No expert for these tasks: {', '.join(missing)}. "
            f"Add each to `experts` as task: path of its .safetensors file."
        )


@cache
def _warn_of_another_env(task: str, made_in: str, plays: str) -> None:
    """Say, once, what fits by its shapes but may still be a mistake."""
    if made_in != plays:
        logger.warning("The expert of task %r was made in %r, but the task is %r.", task, made_in, plays)


def _columns(name: str, info: ExpertInfo, task: Task) -> torch.Tensor | None:
    """Return which of the expert's outputs is each of the task's actions, (n,); None if they are the same."""
    space = task.observation_space
    if (space.shape, space.dtype) != (info.observation_shape, np.dtype(info.observation_dtype)):
        raise DistillError(
            f"The expert of task {name!r} (made in {info.env!r}) takes observations {info.observation_shape} "
            f"{info.observation_dtype}, but the task's are {space.shape} {space.dtype}. "
            f"Use an expert that was trained on this task."
        )
    theirs, own = info.action_meanings, task.action_meanings
    if theirs and own and set(own) <= set(theirs):
        return None if theirs == own else torch.tensor([theirs.index(meaning) for meaning in own])
    if (theirs and own) or info.num_actions != task.num_actions:
        raise DistillError(
            f"The expert of task {name!r} (made in {info.env!r}) has {_actions(theirs, info.num_actions)}, "
            f"but the task has {_actions(own, task.num_actions)}. "
            f"Use an expert that was trained on this task."
        )
    return None


def _actions(meanings: tuple[str, ...] | None, count: int) -> str:
    return f"{count} actions" + (f" ({', '.join(meanings)})" if meanings else "")
