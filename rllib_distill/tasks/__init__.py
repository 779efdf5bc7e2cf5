"""Tasks: named environments, the spaces that several tasks share, and vector environments."""

from rllib_distill.tasks.minatar import MinAtarVectorEnv
from rllib_distill.tasks.spaces import SharedSpaces
from rllib_distill.tasks.task import Task, TaskSet, TaskSpec

__all__ = ["MinAtarVectorEnv", "SharedSpaces", "Task", "TaskSet", "TaskSpec"]
