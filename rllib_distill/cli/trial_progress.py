"""What a trial's results say about its progress."""

import math
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rllib_distill.cli.stop_criteria import ENV_STEPS, ITERATIONS, SECONDS, counts_of, seconds_left
from rllib_distill.core.schedules import share_done

_WINDOW_S = 15.0


@dataclass
class TrialProgress:
    """The last result of a trial, and how fast it goes.

    Attributes:
        name: Of the trial.
        stop: Its criteria.
        tasks: Names of its tasks.
        result: The last one.
    """

    name: str
    stop: Mapping[str, float]
    tasks: tuple[str, ...]
    result: Mapping[str, Any] = field(default_factory=dict)
    _counts: dict[str, float] = field(default_factory=dict)
    _recent: deque[tuple[float, dict[str, float]]] = field(default_factory=deque)

    def update(self, result: Mapping[str, Any]) -> None:
        """Takes in a new result."""
        self.result = result
        now = time.monotonic()
        self._counts = counts_of(self.stop, result, self._counts)
        self._recent.append((now, self._counts))
        while len(self._recent) > 2 and now - self._recent[0][0] > _WINDOW_S:
            self._recent.popleft()

    @property
    def env_steps(self) -> int:
        """Of all tasks together."""
        return int(self.result.get(ENV_STEPS) or 0)

    @property
    def iteration(self) -> int:
        """Number of the last training iteration."""
        return int(self.result.get(ITERATIONS) or 0)

    @property
    def seconds(self) -> float:
        """Time trained, as Tune counts it (a resumed trial goes on counting)."""
        return float(self.result.get(SECONDS) or 0)

    @property
    def rates(self) -> dict[str, float]:
        """Counter of results -> increase per second, lately."""
        if not self._recent:
            return {}
        if len(self._recent) == 1:
            return {key: value / max(self.seconds, 1e-9) for key, value in self._recent[0][1].items()}
        (start, first), (end, last) = self._recent[0], self._recent[-1]
        return {key: (last[key] - first[key]) / max(end - start, 1e-9) for key in last}

    @property
    def share(self) -> float | None:
        """How much is done, from 0 to 1; None if no criterion tells."""
        return share_done(self.stop, lambda key: self._counts.get(key, 0.0))

    @property
    def seconds_left(self) -> float | None:
        """Until it stops; None if no criterion tells."""
        return seconds_left(self.stop, self._counts, self.rates)

    @property
    def loss(self) -> float | None:
        """Mean total loss of the modules; None while none has learned."""
        losses = [
            float(values["total_loss"])
            for values in self.result.get("learners", {}).values()
            if isinstance(values, Mapping) and "total_loss" in values
        ]
        return sum(losses) / len(losses) if losses else None

    @property
    def returns(self) -> dict[str, float]:
        """Task -> mean return of the last training episodes; of all episodes where there are no tasks."""
        runners = self.result.get("env_runners", {})
        per_task = runners.get("agent_episode_returns_mean", {})
        returns = {task: float(per_task[task]) for task in self.tasks if task in per_task}
        if not self.tasks and "episode_return_mean" in runners:
            returns["mean"] = float(runners["episode_return_mean"])
        return {task: value for task, value in returns.items() if not math.isnan(value)}


def clock(seconds: float | None) -> str:
    """`1:02:03`, or `2:03`."""
    if seconds is None:
        return "?"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
