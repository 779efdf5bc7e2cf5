"""Recorded runs: the content of their files, and the scores and curves of several runs in one table."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pydantic import ConfigDict, model_validator

from rllib_distill.errors import DistillError, nearest
from rllib_distill.evaluation.report import FORMAT
from rllib_distill.files import json_text
from rllib_distill.schema import Schema, validate

_WINDOW = 5  # number of points of a curve that `first_reach` averages


class _Recorded(Schema):
    model_config = ConfigDict(allow_inf_nan=True)  # the mean of no episodes is NaN


class Score(_Recorded):
    """The score of one policy on one task: statistics of the returns and lengths (in steps) of episodes."""

    episodes: int
    env_steps: int
    mean: float
    std: float
    min: float
    max: float
    mean_length: float
    human_normalised: float | None = None
    unfinished: bool = False
    returns: list[float] | None = None


class TaskScores(_Recorded):
    """All policies' scores on a task; the trained policy is `student` if it has experts, else `policy`."""

    random: Score
    expert: Score | None = None
    student: Score | None = None
    policy: Score | None = None
    distilled: Score | None = None
    student_share: float | None = None

    @model_validator(mode="after")
    def _has_one_learner(self) -> "TaskScores":
        if (self.student is None) == (self.policy is None):
            raise ValueError("it must have the scores of a student or of a policy.")
        return self

    @property
    def learner(self) -> Score:
        """The score of the policy that was trained."""
        score = self.policy if self.student is None else self.student
        assert score is not None  # as validated
        return score

    @property
    def is_unfinished(self) -> bool:
        """Whether a score is of unfinished episodes, so that the task's scores cannot be compared."""
        scores = (self.random, self.expert, self.student, self.policy, self.distilled)
        return any(score is not None and score.unfinished for score in scores)


class HowPlayed(_Recorded):
    """How the scores were measured: over a number of episodes, or over an epoch of a number of steps."""

    episodes: int | None = None
    steps: int | None = None
    epsilon: float
    seed: int


class Training(_Recorded):
    """How long a run was trained (env steps of all tasks together, and seconds), and with which seed."""

    env_steps: int | None
    seconds: float | None
    seed: int | None


class Evaluation(_Recorded):
    """Mean returns in one evaluation during training, for each kind of policies: task -> mean return."""

    env_steps: int
    student: dict[str, float]
    experts: dict[str, float] | None = None
    distilled: dict[str, float] | None = None


class TrainingPoint(_Recorded):
    """A point of the training curve; `returns` maps tasks to the mean return of their latest episodes."""

    env_steps: int
    seconds: float
    returns: dict[str, float]


class ScoresFile(_Recorded):
    """The content of a `scores.json`, as `Report.to_json` writes it."""

    format: str
    tasks: dict[str, TaskScores]
    measure: str | None = None
    geometric_mean: float | None = None
    algorithm: str
    checkpoint: str = ""
    evaluation: HowPlayed
    training: Training
    config: dict[str, Any]
    versions: dict[str, str]
    command: str
    evaluations: tuple[Evaluation, ...] = ()
    training_curve: tuple[TrainingPoint, ...] = ()


@dataclass(frozen=True, eq=False)
class RecordedRun:
    """A run's recorded scores, and how it was trained and evaluated.

    Attributes:
        path: The path of the run's file.
        scores: The content of the file.
    """

    path: Path
    scores: ScoresFile

    @classmethod
    def read(cls, path: Path) -> "RecordedRun":
        """Reads a `scores.json`, or a copy of one that `rllib record` made.

        Args:
            path: The path of the file.

        Raises:
            DistillError: The file cannot be read, is not JSON, or has another format.
        """
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise DistillError(f"Cannot read {path}: {error.strerror}.") from None
        except ValueError as error:
            raise DistillError(f"{path} is not valid JSON ({error}).") from None
        found = content.get("format") if isinstance(content, Mapping) else None
        if found != FORMAT:
            raise DistillError(
                f"{path} has the format {found!r}; it must be {FORMAT!r}: "
                "let `rllib evaluate CHECKPOINT --out scores.json` write it anew."
            )
        return cls(path, validate(ScoresFile, content, str(path)))

    def compact(self) -> str:
        """Returns all but single episodes' returns as JSON; paths in the working folder become relative."""
        returns = {"tasks": {"__all__": {"__all__": {"returns"}}}}
        content = self.scores.model_dump(exclude_unset=True, exclude=returns)
        return json_text(content).replace(f"{Path.cwd()}/", "") + "\n"

    @property
    def tasks(self) -> tuple[str, ...]:
        """The names of the tasks."""
        return tuple(self.scores.tasks)

    @property
    def has_experts(self) -> bool:
        """Whether every task has an expert."""
        return all(scores.expert is not None for scores in self.scores.tasks.values())

    def setting(self, key: str) -> Any:
        """Returns `algorithm`, or a setting of the config such as `network.type`; None if it is missing."""
        value: Any = {**self.scores.config, "algorithm": self.scores.algorithm}
        for part in key.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        return value

    def evaluated(self, who: str, task: str) -> pd.Series:
        """Returns the evaluations of one kind of policies during training.

        Args:
            who: `student`, `experts` or `distilled`.
            task: The task.

        Returns:
            Env steps of all tasks together -> mean return; empty if there are none.
        """
        points = {e.env_steps: (getattr(e, who) or {}).get(task) for e in self.scores.evaluations}
        return pd.Series(points, dtype=float).dropna()

    @cached_property
    def training_returns(self) -> pd.DataFrame:
        """Training returns: a row per point of the curve (its index: env steps), and a column per task."""
        points = self.scores.training_curve
        steps = pd.Index([float(point.env_steps) for point in points], name="env_steps")
        frame = pd.DataFrame([point.returns for point in points], steps, list(self.tasks), dtype=float)
        return frame[~steps.duplicated(keep="last")]

    @cached_property
    def mean_curve(self) -> pd.Series:
        """The mean of the tasks' training returns, with gaps interpolated: env steps -> mean return."""
        return interpolated(self.training_returns.dropna(how="all")).mean(axis=1)


def score_frame(runs: Sequence[RecordedRun], keys: Sequence[str]) -> pd.DataFrame:
    """Makes one table of the scores of several runs, which can be grouped by settings, seeds and tasks.

    Args:
        runs: The runs, at least one.
        keys: Settings, as in `RecordedRun.setting`.

    Returns:
        A row per run and task, sorted by the settings (numbers before texts) and then by the seed. Columns:
        the settings and `seed` as text; `task`; `run` (a `RecordedRun`); the mean returns `random`, `expert`
        (NaN if there is none) and `learner`; `unfinished` (see `TaskScores.is_unfinished`); and `env_steps`
        and `seconds` of training.

    Raises:
        DistillError: A key is in no run, or two runs with the same settings have the same seed and task.
    """
    for key in keys:
        if all(run.setting(key) is None for run in runs):
            known = {"algorithm"}.union(*(run.scores.config for run in runs))
            raise DistillError(
                f"rows has the key {key!r}, which no run has. {nearest(key, known, list_known=False)}"
            )

    def order(run: RecordedRun) -> Any:
        seed = run.scores.training.seed
        return [_order(run.setting(key)) for key in keys], seed is None, seed or 0

    frame = pd.DataFrame(
        {
            "seed": str(run.scores.training.seed),
            **{key: setting_text(run.setting(key)) for key in keys},
            "task": task,
            "run": run,
            "random": scores.random.mean,
            "expert": scores.expert.mean if scores.expert else np.nan,
            "learner": scores.learner.mean,
            "unfinished": scores.is_unfinished,
            "env_steps": run.scores.training.env_steps,
            "seconds": run.scores.training.seconds,
        }
        for run in sorted(runs, key=order)
        for task, scores in run.scores.tasks.items()
    ).astype({"env_steps": float, "seconds": float})
    for (*_, seed, task), same in frame.groupby([*keys, frame["seed"], "task"], sort=False)["run"]:
        if len(same) > 1:
            first, second = (run.path.name for run in same.iloc[:2])
            raise DistillError(
                f"{first} and {second} have the same seed ({seed}) and task ({task!r}) in one row: leave one "
                "out, or part them by a key in rows or by sections."
            )
    return frame


def all_tasks(runs: Sequence[RecordedRun]) -> list[str]:
    """Returns the tasks of all runs, each once."""
    return list(dict.fromkeys(task for run in runs for task in run.tasks))


def setting_text(value: Any) -> str:
    """Writes a setting as it is in YAML or JSON; a dash if it is None."""
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:g}"  # 0.0 and 0 are the same setting
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True, default=str)


def interpolated(curves: pd.DataFrame) -> pd.DataFrame:
    """Fills the gaps of curves (the columns): linearly between points, constantly before and after them."""
    return curves.interpolate(method="index", limit_direction="both")


def mean_return(curve: pd.Series, start: float, end: float) -> float:
    """Returns the mean of a curve over a range of env steps: the area below it, divided by the range.

    Args:
        curve: Env steps -> mean return, linear between its points.
        start: Where the range begins, in env steps.
        end: Where the range ends, greater than `start`.
    """
    inside = curve.index[(curve.index > start) & (curve.index < end)]
    steps = np.array([start, *inside, end])
    return float(np.trapezoid(np.interp(steps, curve.index, curve), steps) / (end - start))


def first_reach(curve: pd.Series, level: float, end: float) -> float:
    """Returns the number of env steps after which a curve first reaches a level.

    It has reached the level when the mean of its latest 5 points (of all, if it has fewer) is at least that.

    Args:
        curve: Env steps -> mean return.
        level: The mean return to reach.
        end: The greatest number of env steps that counts.

    Returns:
        Env steps; infinity if the curve does not reach the level.
    """
    width = min(_WINDOW, len(curve))
    means = np.lib.stride_tricks.sliding_window_view(curve, width).mean(axis=1)
    steps = curve.index[width - 1 :]
    return min(steps[(means >= level) & (steps <= end)], default=np.inf)


def _order(value: Any) -> tuple[bool, float, str]:
    """Returns a key that sorts numbers by size and, after them, other settings by their text."""
    is_number = isinstance(value, int | float)
    return not is_number, float(value) if is_number else 0.0, setting_text(value)
