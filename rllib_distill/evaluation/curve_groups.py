"""Runs of equal settings as curves: one per seed and task, and what they come to."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from statistics import median

import numpy as np

from rllib_distill.errors import DistillError, nearest
from rllib_distill.evaluation.curve import Curve, mean_of_curves
from rllib_distill.evaluation.recorded_run import RecordedRun
from rllib_distill.evaluation.run_groups import RunGroup, all_tasks, group_runs


@dataclass(frozen=True)
class CurveOptions:
    """What a person may say about curves.

    Attributes:
        threshold: A mean return; how long it takes to reach it is compared. None: nothing is.
        from_env_steps: Where areas begin.
        labels: Label of a row, which is its settings' values joined by commas -> a nicer one.
        best_of: Settings among a row's of which only the best values are shown: those with the largest area.
    """

    threshold: float | None = None
    from_env_steps: float = 0.0
    labels: Mapping[str, str] = field(default_factory=dict)
    best_of: tuple[str, ...] = ()


@dataclass(frozen=True)
class CurveGroup:
    """The curves of a row.

    Attributes:
        label: Of the row.
        place: Of the row among all of the section, in the order of their settings.
        runs: One per seed.
        start: The env step where areas begin.
        end: And where they end.
        candidates: The areas of all values of the settings that this row is the best of, itself among them.
    """

    label: str
    place: int
    runs: Sequence[RecordedRun]
    start: float
    end: float
    candidates: tuple[float, ...] = ()

    @cached_property
    def curves(self) -> list[Curve]:
        """Per seed, the mean over the tasks."""
        return [mean_of_curves([curve_of(run, task) for task in run.tasks]) for run in self.runs]

    def task_curves(self, task: str) -> list[Curve]:
        """Per seed, those of one task."""
        return [curve_of(run, task) for run in self.runs]

    @cached_property
    def areas(self) -> list[float]:
        """Of each seed: the mean return over env steps."""
        return [curve.mean(self.start, self.end) for curve in self.curves]

    @property
    def area(self) -> float:
        """Mean over seeds."""
        return float(np.mean(self.areas))

    @property
    def final_returns(self) -> list[float]:
        """Of each seed: the mean over the last tenth of the env steps."""
        start = self.end - (self.end - self.start) / 10
        return [curve.mean(start, self.end) for curve in self.curves]

    def steps_until(self, level: float) -> float:
        """Env steps until a level is first reached: the median of the seeds; infinite for who never does."""
        return median(curve.first_reach(level, self.end) for curve in self.curves)


def curve_groups(runs: Sequence[RecordedRun], keys: Sequence[str], options: CurveOptions) -> list[CurveGroup]:
    """Groups runs and compares them over the env steps that all of them made.

    Args:
        runs: At least one.
        keys: Settings; each combination of their values is a row.
        options: Labels, and where areas begin.

    Returns:
        The rows, the largest area first.

    Raises:
        DistillError: See `group_runs`; or a run has no curve of a task, or made no env steps where areas are
            taken; or a label is of no row, or of two; or `best_of` has what is no key, or all of them.
    """
    groups = group_runs(runs, keys)
    _check_curves(runs)
    _check_best_of(options.best_of, keys)
    end = _common_end(runs, options.from_env_steps)
    rows: dict[tuple[str, ...], list[CurveGroup]] = {}
    for label, group in zip(_labels(groups, options.labels), groups, strict=True):
        kept = [text for key, text in zip(keys, group.labels, strict=True) if key not in options.best_of]
        row = CurveGroup(label, 0, group.runs, options.from_env_steps, end)
        rows.setdefault(tuple(kept) if options.best_of else group.labels, []).append(row)
    best = [_best(row, place) for place, row in enumerate(rows.values())]
    return sorted(best, key=lambda row: -row.area)


def curve_of(run: RecordedRun, task: str) -> Curve:
    """A task's training returns."""
    steps, returns = run.training_curve(task)
    return Curve(np.array(steps, np.float64), np.array(returns, np.float64))


def _best(candidates: Sequence[CurveGroup], place: int) -> CurveGroup:
    areas = tuple(row.area for row in candidates)
    return replace(candidates[areas.index(max(areas))], place=place, candidates=areas)


def _check_best_of(best_of: Sequence[str], keys: Sequence[str]) -> None:
    for key in best_of:
        if key not in keys:
            raise DistillError(f"best_of has {key!r}, which rows has not. {nearest(key, keys)}")
    if best_of and set(best_of) == set(keys):
        raise DistillError(f"best_of has all of rows, {list(keys)!r}; leave out what is to be compared.")


def _check_curves(runs: Sequence[RecordedRun]) -> None:
    tasks = all_tasks(runs)
    for run in runs:
        missing = [task for task in tasks if task not in run.tasks]
        if missing:
            raise DistillError(
                f"{run.path.name} has no task {missing[0]!r}, which another run has; means over different "
                "tasks can't be compared: leave it out, or part them by sections."
            )
        if not run.content.get("training_curve"):
            raise DistillError(
                f"{run.path.name} has no training_curve: let `rllib evaluate CHECKPOINT --out scores.json` "
                "write it anew, with the checkpoint in its trial's folder, where its result.json is."
            )
        for task in tasks:
            if not run.training_curve(task)[0]:
                raise DistillError(
                    f"{run.path.name} has no return of {task!r}: not one episode of it ended while training. "
                    "Leave the run out, or train for longer."
                )


def _common_end(runs: Sequence[RecordedRun], start: float) -> float:
    """The least last env step of all runs."""
    ends = [max(curve_of(run, task).end for task in run.tasks) for run in runs]
    end = min(ends)
    if start >= end:
        raise DistillError(
            f"from_env_steps is {start:g}, but {runs[ends.index(end)].path.name} was trained for {end:g} env "
            "steps; it must be less than that."
        )
    return end


def _labels(groups: Sequence[RunGroup], nicer: Mapping[str, str]) -> list[str]:
    labels = [", ".join(group.labels) for group in groups]
    for label in nicer:
        if label not in labels:
            raise DistillError(f"labels has {label!r}, which is no row. {nearest(label, labels)}")
    named = [nicer.get(label, label) for label in labels]
    if len(set(named)) < len(named):
        raise DistillError(
            f"labels is {dict(nicer)!r}, so that two rows are called the same; name them apart."
        )
    return named
