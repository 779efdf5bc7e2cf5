"""Finished episodes and made steps, under RLlib's usual keys, per task and per module."""

from collections import Counter
from collections.abc import Mapping
from math import ceil
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
    """Collects while sampling, which costs next to nothing, and logs when RLlib asks for metrics."""

    def __init__(self, logger: MetricsLogger, config: Any):
        """Logs to `logger`; `config` gives the mapping of tasks to modules and the smoothing window."""
        self._logger = logger
        self._module_of = config.policy_mapping_fn
        self._window = max(1, ceil(config.metrics_num_episodes_for_smoothing / (config.num_env_runners or 1)))
        self._episodes: list[tuple[str, Episode, bool]] = []
        self._steps: Counter[str] = Counter()

    def add(self, task: str, episode: Episode, *, keep_each: bool = False) -> None:
        """Notes a finished episode; `keep_each` lists its return besides averaging it."""
        self._episodes.append((task, episode, keep_each))

    def count_steps(self, steps: Mapping[str, int]) -> None:
        """Notes env steps per task."""
        self._steps.update(steps)

    def log(self) -> None:
        """Logs and forgets what was noted."""
        self._log_steps()
        self._log_episodes()
        self._steps.clear()
        self._episodes.clear()

    def _log_steps(self) -> None:
        total = sum(self._steps.values())
        if total == 0:
            return
        modules: Counter[str] = Counter()
        for task, steps in self._steps.items():
            modules[self._module_of(task, None)] += steps
        sums = {
            NUM_ENV_STEPS_SAMPLED: total,
            NUM_EPISODES: len(self._episodes),
            NUM_AGENT_STEPS_SAMPLED: dict(self._steps),
            NUM_MODULE_STEPS_SAMPLED: dict(modules),
        }
        lifetime = {
            NUM_EPISODES_LIFETIME: len(self._episodes),
            NUM_AGENT_STEPS_SAMPLED_LIFETIME: dict(self._steps),
            NUM_MODULE_STEPS_SAMPLED_LIFETIME: dict(modules),
        }
        self._logger.log_dict(sums, reduce="sum")
        self._logger.log_dict(lifetime, reduce="lifetime_sum")
        self._logger.log_value(
            NUM_ENV_STEPS_SAMPLED_LIFETIME, total, reduce="lifetime_sum", with_throughput=True
        )

    def _log_episodes(self) -> None:
        if not self._episodes:
            return
        returns = [episode.episode_return for _, episode, _ in self._episodes]
        lengths = [episode.length for _, episode, _ in self._episodes]
        least = {EPISODE_RETURN_MIN: min(returns), EPISODE_LEN_MIN: min(lengths)}
        most = {EPISODE_RETURN_MAX: max(returns), EPISODE_LEN_MAX: max(lengths)}
        self._logger.log_dict(least, reduce="min", window=self._window)
        self._logger.log_dict(most, reduce="max", window=self._window)
        for task, episode, keep_each in self._episodes:
            means = {
                EPISODE_RETURN_MEAN: episode.episode_return,
                EPISODE_LEN_MEAN: episode.length,
                EPISODE_AGENT_RETURN_MEAN: {task: episode.episode_return},
                EPISODE_AGENT_STEPS: {task: episode.length},
                EPISODE_MODULE_RETURN_MEAN: {self._module_of(task, None): episode.episode_return},
            }
            self._logger.log_dict(means, window=self._window)
            if keep_each:
                self._logger.log_value(
                    (AGENT_EPISODE_RETURNS, task), episode.episode_return, reduce="item_series"
                )
