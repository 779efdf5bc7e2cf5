"""Finished episodes and made steps, under RLlib's usual keys, per task and per module."""

from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Mapping, Sequence
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

from rllib_distill.env_runner.task_envs import EXPERT, Episode

AGENT_EPISODE_RETURNS = "agent_episode_returns"
"""Key of the list of every single return of an evaluation, per task."""

MODULE_EPISODE_RETURNS = "module_episode_returns"
"""The same of the experts that learn, per module."""

DISTILLED_EPISODE_RETURNS = "distilled_episode_returns"
"""The same of the distilled policy, per task; with `_mean`, their mean."""

STUDENT_EPISODE_RETURNS_MEAN = "student_episode_returns_mean"
"""Key of the mean of a task's last training episodes that the student acted, where there are experts."""

EXPERT_EPISODE_RETURNS_MEAN = "expert_episode_returns_mean"
"""Key of the same of an expert that learns, logged once per full window: the best of overlapping means, or of
means of few episodes, would be the luckiest."""


class EpisodeMetrics:
    """Collects while sampling, which costs next to nothing, and logs when RLlib asks for metrics.

    Means are over a task's last episodes (`metrics_num_episodes_for_smoothing`, shared by the runners), so a
    task whose episodes are long keeps its mean while none of them ends. Those of a module are over the last
    episodes that it acted of each of its tasks; experts from files are no modules.
    """

    def __init__(self, logger: MetricsLogger, config: Any):
        """Logs to `logger`; `config` gives who acts for the tasks and the smoothing window."""
        self._logger = logger
        self._student_of = config.policy_mapping_fn
        self._expert_of: Mapping[str, str] = config.expert_modules
        self._has_experts = bool(config.expert_modules or config.label_columns)
        self._window = max(1, ceil(config.metrics_num_episodes_for_smoothing / (config.num_env_runners or 1)))
        self._recent = _Played(self._window)
        self._of_experts: defaultdict[str, list[Episode]] = defaultdict(list)
        self._evaluated = _Played()
        self._num_episodes = 0
        self._steps: Counter[str] = Counter()

    def add(self, task: str, episode: Episode, *, by_expert: bool = False) -> None:
        """Notes an episode that ended in training, and whether the task's expert acted."""
        module = self._expert_of.get(task) if by_expert else self._student_of(task, None)
        self._recent.of_task[task].append(episode)
        if module is not None:
            self._recent.of_module[module, task].append(episode)
        if module is not None and by_expert:
            self._of_experts[task].append(episode)
        self._num_episodes += 1

    def add_evaluation(self, task: str, episodes: Sequence[Episode]) -> None:
        """Notes an evaluation's episodes: means are over all of them alone, and each return is listed."""
        for episode in episodes:
            self._evaluated.of_task[task].append(episode)  # apart: training may go on in this runner
            self._evaluated.of_module[self._student_of(task, None), task].append(episode)
            self._list((AGENT_EPISODE_RETURNS, task), episode)
        self._num_episodes += len(episodes)

    def add_evaluation_beside(self, who: str, task: str, episodes: Sequence[Episode]) -> None:
        """Notes what another policy than the student played: it counts under that one's keys alone.

        Args:
            who: `EXPERT`, a module that learns, or `DISTILLED`.
            task: The task.
            episodes: All that it played.
        """
        module = self._expert_of[task] if who == EXPERT else None
        for episode in episodes:
            if module is not None:
                self._evaluated.of_module[module, task].append(episode)
                self._list((MODULE_EPISODE_RETURNS, module), episode)
            else:
                self._evaluated.of_distilled[task].append(episode)
                self._list((DISTILLED_EPISODE_RETURNS, task), episode)

    def count_steps(self, steps: Mapping[str, int]) -> None:
        """Notes env steps per task."""
        self._steps.update(steps)

    def log(self) -> None:
        """Logs, and forgets the counts."""
        if self._steps:
            self._log_counts()
        if self._evaluated.of_task:
            self._log_episodes(self._evaluated)
            for task, episodes in self._evaluated.of_distilled.items():
                self._log_mean(f"{DISTILLED_EPISODE_RETURNS}_mean", task, episodes)
        elif self._recent.of_task:
            self._log_episodes(self._recent)
            if self._has_experts:
                self._log_students_means()
                self._log_experts_means()
        self._evaluated = _Played()
        self._steps.clear()
        self._num_episodes = 0

    def _list(self, key: tuple[str, str], episode: Episode) -> None:
        self._logger.log_value(key, episode.episode_return, reduce="item_series")

    def _log_counts(self) -> None:
        total = sum(self._steps.values())
        modules: Counter[str] = Counter()
        for task, steps in self._steps.items():
            modules[self._student_of(task, None)] += steps
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

    def _log_episodes(self, played: "_Played") -> None:
        returns = {task: _returns(episodes) for task, episodes in played.of_task.items()}
        lengths = {task: [e.length for e in episodes] for task, episodes in played.of_task.items()}
        all_returns, all_lengths = list(chain(*returns.values())), list(chain(*lengths.values()))
        of_module: dict[str, list[float]] = {}
        for (module, _), episodes in played.of_module.items():
            of_module.setdefault(module, []).extend(_returns(episodes))
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

    def _log_students_means(self) -> None:
        for (module, task), episodes in self._recent.of_module.items():
            if module == self._student_of(task, None):
                self._log_mean(STUDENT_EPISODE_RETURNS_MEAN, task, episodes)

    def _log_experts_means(self) -> None:
        for task, episodes in self._of_experts.items():
            if len(episodes) >= self._window:
                self._log_mean(EXPERT_EPISODE_RETURNS_MEAN, task, episodes)
                episodes.clear()

    def _log_mean(self, key: str, task: str, episodes: Iterable[Episode]) -> None:
        self._logger.log_value((key, task), fmean(_returns(episodes)), reduce="mean", window=1)


class _Played:
    """Episodes, per task, per module that acted and task (at most so many of the last), of the distilled."""

    def __init__(self, most: int | None = None):
        self.of_task: defaultdict[str, deque[Episode]] = defaultdict(lambda: deque(maxlen=most))
        self.of_module: defaultdict[tuple[str, str], deque[Episode]] = defaultdict(lambda: deque(maxlen=most))
        self.of_distilled: defaultdict[str, list[Episode]] = defaultdict(list)


def _returns(episodes: Iterable[Episode]) -> list[float]:
    return [episode.episode_return for episode in episodes]
