"""The columnar data path: env runners write fragments, learners keep them in a replay memory."""

from rllib_distill.sampling.episodes import EpisodeReturns
from rllib_distill.sampling.fragment import Fragment
from rllib_distill.sampling.fragment_queue import FragmentQueue
from rllib_distill.sampling.memory_habits import axes_in_memory, keep_large_tensors_cheap
from rllib_distill.sampling.multi_task_env_runner import MultiTaskEnvRunner
from rllib_distill.sampling.sequence_replay import SequenceReplay
from rllib_distill.sampling.task_replay import TaskReplay
from rllib_distill.sampling.trajectories import Trajectories

__all__ = [
    "EpisodeReturns",
    "Fragment",
    "FragmentQueue",
    "MultiTaskEnvRunner",
    "SequenceReplay",
    "TaskReplay",
    "Trajectories",
    "axes_in_memory",
    "keep_large_tensors_cheap",
]
