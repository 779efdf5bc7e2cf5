"""Env runners: they play all tasks side by side and write down what was played."""

from rllib_distill.env_runner.multi_task_env_runner import MultiTaskEnvRunner
from rllib_distill.env_runner.task_envs import EpisodeReturns

__all__ = ["EpisodeReturns", "MultiTaskEnvRunner"]
