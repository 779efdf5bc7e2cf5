"""One DQN per task."""

from rllib_distill.algorithms.multi_task_dqn.multi_task_dqn import MultiTaskDQN, MultiTaskDQNConfig

__all__ = ["MultiTaskDQN", "MultiTaskDQNConfig"]
