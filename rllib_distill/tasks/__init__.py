"""Tasks: named environments, what several of them share, and how they are run side by side."""

from rllib_distill.tasks.minatar import MinAtarVectorEnv
from rllib_distill.tasks.shared_spaces import SharedSpaces
from rllib_distill.tasks.task_set import Task, TaskSet
from rllib_distill.tasks.task_spec import TaskSpec

__all__ = ["MinAtarVectorEnv", "SharedSpaces", "Task", "TaskSet", "TaskSpec"]
