"""Which learner gets which sample: references travel, arrays don't."""

import logging
from collections.abc import Iterator, Sequence
from typing import Any

import ray
from ray.exceptions import ObjectLostError, OwnerDiedError
from ray.rllib.core.learner.training_data import TrainingData

from rllib_distill.sampling import Fragment

logger = logging.getLogger(__name__)


def rank_of(runner: int, turn: int, num_learners: int, num_env_runners: int) -> int:
    """The learner that gets a runner's samples: always the same, or in turn where learners are more."""
    return (runner if num_env_runners >= num_learners else turn) % num_learners


def num_sources(rank: int, num_learners: int, num_env_runners: int) -> int:
    """How many runners' samples a learner gets by `rank_of`; a local runner is one."""
    if num_env_runners < num_learners:
        return max(1, num_env_runners)
    return sum(runner % num_learners == rank for runner in range(1, num_env_runners + 1))


class FragmentData(TrainingData):
    """Samples with the rank that each goes to; a sample is a list of fragments or a reference to one."""

    def __init__(self, samples: Sequence[tuple[int, Any]]):
        """Takes `(rank, sample)` pairs."""
        super().__init__()
        self.samples = list(samples)

    def validate(self) -> None:
        """Any number of samples is fine, none too."""

    def solve_refs(self) -> None:
        """Left to `fragments`, which runs where the fragments are wanted."""

    def shard(self, num_shards: int, len_lookback_buffer: int | None = None, **_: Any) -> list[Any]:
        """One `FragmentData` per rank, in RLlib's form."""
        return [
            (FragmentData([(rank, sample) for rank, sample in self.samples if rank == shard]), {})
            for shard in range(num_shards)
        ]

    def fragments(self) -> Iterator[Fragment]:
        """The fragments themselves; a sample that died with its runner is left out and logged."""
        for _, sample in self.samples:
            try:
                yield from ray.get(sample) if isinstance(sample, ray.ObjectRef) else sample
            except (ObjectLostError, OwnerDiedError) as error:
                logger.warning(
                    "A sample was lost with the env runner that made it, which does no harm: %s", error
                )
