"""Distral: task policies and a distilled policy that shape each other (Teh et al., 2017)."""

from collections.abc import Sequence
from typing import Any

from rllib_distill.algorithms.common.multi_task_algorithm import MultiTaskAlgorithm
from rllib_distill.algorithms.distral.distral_config import DistralConfig

__all__ = ["Distral", "DistralConfig"]


class Distral(MultiTaskAlgorithm):
    """An asynchronous actor-critic, successor of the paper's A3C: no replay, V-trace, any number of ranks.

    Tasks are played by their own policies (module id = task name); `evaluate` plays them with the distilled
    policy (module id `distilled`), too: `env_runners/distilled_episode_returns_mean/<task>`. With `a3c` there
    is none, and with `a3c_multitask` it is the tasks' own.
    """

    config: DistralConfig

    @classmethod
    def get_default_config(cls) -> DistralConfig:
        """See RLlib."""
        return DistralConfig()

    @property
    def samples_awaited(self) -> int:
        """As many as there are ranks, so that each has work: one without a sample only follows the others."""
        return max(1, self.config.num_learners)

    def num_minibatches(self, samples: Sequence[tuple[int, Any]], new_env_steps: int) -> int:
        """All samples of a rank are one minibatch; a rank that has none goes along with the others."""
        return 1
