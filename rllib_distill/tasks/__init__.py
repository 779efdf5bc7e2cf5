"""Tasks: named environments, what several of them share, and how they are run side by side."""

from rllib_distill.tasks.minatar import MinAtarVectorEnv
from rllib_distill.tasks.spaces import SharedSpaces
from rllib_distill.tasks.task import Task, TaskSet, TaskSpec

__all__ = ["MinAtarVectorEnv", "SharedSpaces", "Task", "TaskSet", "TaskSpec"]
