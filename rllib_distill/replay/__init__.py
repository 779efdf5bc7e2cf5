"""From env runners to learners: fragments, the buffers that keep them, the batches drawn from them."""

from rllib_distill.replay.batch import Batch, FinalObservations, FragmentQueue
from rllib_distill.replay.fragment import Fragment
from rllib_distill.replay.minibatches import Minibatches, OneTaskAtATime, Sequences
from rllib_distill.replay.replay_buffer import ReplayBuffer

__all__ = [
    "Batch",
    "FinalObservations",
    "Fragment",
    "FragmentQueue",
    "Minibatches",
    "OneTaskAtATime",
    "ReplayBuffer",
    "Sequences",
]
