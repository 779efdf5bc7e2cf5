"""What Tune wrote about a trial while it trained."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class TrainingRecord:
    """A trial's results in order; empty where there is no record.

    Attributes:
        results: One per training iteration.
    """

    results: tuple[dict[str, Any], ...]

    @classmethod
    def read(cls, trial_folder: Path) -> "TrainingRecord":
        """Reads `result.json`, one JSON mapping per line.

        Args:
            trial_folder: Where the trial's checkpoints are.
        """
        path = trial_folder / "result.json"
        results: list[dict[str, Any]] = []
        for line in path.read_text().splitlines() if path.exists() else ():
            try:
                result = json.loads(line)
            except ValueError:
                continue  # the last line of a run that was killed
            while results and results[-1]["training_iteration"] >= result["training_iteration"]:
                results.pop()  # went on from an earlier checkpoint
            results.append(result)
        return cls(tuple(results))

    @property
    def env_steps(self) -> int | None:
        """Of all tasks together."""
        steps = self.results[-1].get("num_env_steps_sampled_lifetime") if self.results else None
        return None if steps is None else int(steps)

    @property
    def seconds(self) -> float | None:
        """Time trained."""
        return float(self.results[-1]["time_total_s"]) if self.results else None

    def returns(self, task: str) -> tuple[list[float], list[float]]:
        """A task's training returns over time: env steps of all tasks together, mean return lately."""
        points = [
            (result["num_env_steps_sampled_lifetime"], value)
            for result in self.results
            if (value := result.get("env_runners", {}).get("agent_episode_returns_mean", {}).get(task))
            is not None
        ]
        return [float(steps) for steps, _ in points], [float(value) for _, value in points]
