"""From env runners to learners: fragments, the buffers that keep them, the batches drawn from them."""

from rllib_distill.replay.batch import Trajectories
from rllib_distill.replay.fragment import Fragment
from rllib_distill.replay.fragment_queue import FragmentQueue
from rllib_distill.replay.replay_buffer import SequenceReplay, TaskReplay

__all__ = ["Fragment", "FragmentQueue", "SequenceReplay", "TaskReplay", "Trajectories"]
