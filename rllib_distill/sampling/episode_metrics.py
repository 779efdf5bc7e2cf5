"""Finished episodes and made steps, under RLlib's usual keys, per task and per module."""

from collections import Counter, deque
from collections.abc import Mapping, Sequence
from itertools import chain
from math import ceil
from statistics import fmean
from typing import Any

from ray.rllib.utils.metrics import (
    EPISODE_AGENT_RETURN_MEAN,
    EPISODE_AGENT_STEPS,
    EPISODE_LEN_MAX,
    EPISODE_LEN_MEAN,
    EPISODE_LEN_MIN,
    EPISODE_MODULE_RETURN_MEAN,
    EPISODE_RETURN_MAX,
    EPISODE_RETURN_MEAN,
    EPISODE_RETURN_MIN,
    NUM_AGENT_STEPS_SAMPLED,
    NUM_AGENT_STEPS_SAMPLED_LIFETIME,
    NUM_ENV_STEPS_SAMPLED,
    NUM_ENV_STEPS_SAMPLED_LIFETIME,
    NUM_EPISODES,
    NUM_EPISODES_LIFETIME,
    NUM_MODULE_STEPS_SAMPLED,
    NUM_MODULE_STEPS_SAMPLED_LIFETIME,
)
from ray.rllib.utils.metrics.metrics_logger import MetricsLogger

from rllib_distill.sampling.task_envs import Episode

AGENT_EPISODE_RETURNS = "agent_episode_returns"
"""Key of the list of every single return of an evaluation, per task."""


class EpisodeMetrics:
    """Collects while sampling, which costs next to nothing, and logs when RLlib asks for metrics.

    Means are over a task's last episodes (`metrics_num_episodes_for_smoothing`, shared by the runners), so a
    task whose episodes are long keeps its mean while none of them ends.
    """

    def __init__(self, logger: MetricsLogger, config: Any):
        """Logs to `logger`; `config` gives the mapping of tasks to modules and the smoothing window."""
        self._logger = logger
        self._module_of = config.policy_mapping_fn
        size = max(1, ceil(config.metrics_num_episodes_for_smoothing / (config.num_env_runners or 1)))
        self._recent: dict[str, deque[Episode]] = {task: deque(maxlen=size) for task in config.tasks}
        self._evaluated: dict[str, Sequence[Episode]] = {}
        self._num_episodes = 0
        self._steps: Counter[str] = Counter()

    def add(self, task: str, episode: Episode) -> None:
        """Notes an episode that ended in training."""
        self._recent[task].append(episode)
        self._num_episodes += 1

    def add_evaluation(self, task: str, episodes: Sequence[Episode]) -> None:
        """Notes an evaluation's episodes: means are over all of them alone, and each return is listed."""
        self._evaluated[task] = episodes  # apart: training may go on in this runner
        self._num_episodes += len(episodes)
        for episode in episodes:
            self._logger.log_value(
                (AGENT_EPISODE_RETURNS, task), episode.episode_return, reduce="item_series"
            )

    def count_steps(self, steps: Mapping[str, int]) -> None:
        """Notes env steps per task."""
        self._steps.update(steps)

    def log(self) -> None:
        """Logs, and forgets the counts."""
        if self._steps:
            self._log_counts()
        recent = {task: episodes for task, episodes in (self._evaluated or self._recent).items() if episodes}
        if recent:
            self._log_episodes(recent)
        self._evaluated = {}
        self._steps.clear()
        self._num_episodes = 0

    def _log_counts(self) -> None:
        total = sum(self._steps.values())
        modules: Counter[str] = Counter()
        for task, steps in self._steps.items():
            modules[self._module_of(task, None)] += steps
        sums = {
            NUM_ENV_STEPS_SAMPLED: total,
            NUM_EPISODES: self._num_episodes,
            NUM_AGENT_STEPS_SAMPLED: dict(self._steps),
            NUM_MODULE_STEPS_SAMPLED: dict(modules),
        }
        lifetime = {
            NUM_EPISODES_LIFETIME: self._num_episodes,
            NUM_AGENT_STEPS_SAMPLED_LIFETIME: dict(self._steps),
            NUM_MODULE_STEPS_SAMPLED_LIFETIME: dict(modules),
        }
        self._logger.log_dict(sums, reduce="sum")
        self._logger.log_dict(lifetime, reduce="lifetime_sum")
        self._logger.log_value(
            NUM_ENV_STEPS_SAMPLED_LIFETIME, total, reduce="lifetime_sum", with_throughput=True
        )

    def _log_episodes(self, recent: Mapping[str, Sequence[Episode]]) -> None:
        returns = {task: [e.episode_return for e in episodes] for task, episodes in recent.items()}
        lengths = {task: [e.length for e in episodes] for task, episodes in recent.items()}
        all_returns, all_lengths = list(chain(*returns.values())), list(chain(*lengths.values()))
        of_module: dict[str, list[float]] = {}
        for task, values in returns.items():
            of_module.setdefault(self._module_of(task, None), []).extend(values)
        means = {
            EPISODE_RETURN_MEAN: fmean(all_returns),
            EPISODE_LEN_MEAN: fmean(all_lengths),
            EPISODE_AGENT_RETURN_MEAN: {task: fmean(values) for task, values in returns.items()},
            EPISODE_AGENT_STEPS: {task: fmean(values) for task, values in lengths.items()},
            EPISODE_MODULE_RETURN_MEAN: {module: fmean(values) for module, values in of_module.items()},
        }
        least = {EPISODE_RETURN_MIN: min(all_returns), EPISODE_LEN_MIN: min(all_lengths)}
        most = {EPISODE_RETURN_MAX: max(all_returns), EPISODE_LEN_MAX: max(all_lengths)}
        self._logger.log_dict(means, reduce="mean", window=1)
        self._logger.log_dict(least, reduce="min", window=1)
        self._logger.log_dict(most, reduce="max", window=1)
