"""What Tune wrote about a trial while it trained."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rllib_distill.evaluation.training_curve import training_curve, training_returns


@dataclass(frozen=True)
class TrainingRecord:
    """A trial's results in order; empty where there is no record.

    Attributes:
        results: One per training iteration.
        expert_modules: Task -> id of the module that was its expert and learned; empty if none did.
    """

    results: tuple[dict[str, Any], ...]
    expert_modules: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, trial_folder: Path, expert_modules: Mapping[str, str] | None = None) -> "TrainingRecord":
        """Reads `result.json`, one JSON mapping per line.

        Args:
            trial_folder: Where the trial's checkpoints are.
            expert_modules: See the attribute.
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
        return cls(tuple(results), dict(expert_modules or {}))

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
            (float(result["num_env_steps_sampled_lifetime"]), mean)
            for result in self.results
            if (mean := training_returns(result).get(task)) is not None
        ]
        return [steps for steps, _ in points], [mean for _, mean in points]

    @property
    def curve(self) -> list[dict[str, Any]]:
        """The training returns of all tasks in at most 200 points, see `training_curve`."""
        return training_curve(self.results)

    @property
    def evaluations(self) -> list[dict[str, Any]]:
        """Where RLlib evaluated while training.

        Returns:
            In order: `env_steps` of all tasks together, and task -> mean return of the `student` (of whoever
            acts for the tasks), of the `experts` where they learn, and of the `distilled` policy where there
            is one.
        """
        evaluations = []
        for result in self.results:
            evaluation = result.get("evaluation") or {}
            if "num_healthy_workers" not in evaluation:
                continue  # RLlib repeats the last one in the results of iterations without their own
            runners = evaluation.get("env_runners", {})
            modules = runners.get("module_episode_returns_mean", {})
            experts = {
                task: modules[module] for task, module in self.expert_modules.items() if module in modules
            }
            distilled = dict(runners.get("distilled_episode_returns_mean", {}))
            evaluations.append(
                {
                    "env_steps": int(result["num_env_steps_sampled_lifetime"]),
                    "student": dict(runners.get("agent_episode_returns_mean", {})),
                    **({"experts": experts} if self.expert_modules else {}),
                    **({"distilled": distilled} if distilled else {}),
                }
            )
        return evaluations


def task_curve(points: Sequence[Mapping[str, Any]], who: str, task: str) -> tuple[list[float], list[float]]:
    """One task's curve.

    Args:
        points: As `TrainingRecord.evaluations` or `TrainingRecord.curve` has them.
        who: `student`, `experts` or `distilled` of evaluations; `returns` of the training itself.
        task: Its name.

    Returns:
        Env steps of all tasks together, mean returns; empty where there is none.
    """
    known = [point for point in points if task in point.get(who, {})]
    return [float(point["env_steps"]) for point in known], [float(point[who][task]) for point in known]
