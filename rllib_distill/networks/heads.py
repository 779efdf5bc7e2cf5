"""Heads: from features to one output per action, and one head per task."""

from collections import OrderedDict
from collections.abc import Mapping

from torch import nn

from rllib_distill.errors import DistillError, nearest


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
