"""Recorded runs put together: those of equal settings are a row, those of equal seeds one result."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rllib_distill.errors import DistillError, nearest
from rllib_distill.evaluation.markdown import setting_text
from rllib_distill.evaluation.recorded_run import RecordedRun

PerSeed = Mapping[int | None, Mapping[str, RecordedRun]]
"""Seed -> task -> the run that trained it: one for all, or one of each."""


@dataclass(frozen=True)
class RunGroup:
    """Runs of equal settings.

    Attributes:
        labels: The settings' values, as text.
        runs: All of them.
        per_seed: The same by seed, in its order, and by task.
    """

    labels: tuple[str, ...]
    runs: tuple[RecordedRun, ...]
    per_seed: PerSeed


def group_runs(runs: Sequence[RecordedRun], keys: Sequence[str]) -> list[RunGroup]:
    """Groups runs by some of their settings.

    Args:
        runs: At least one.
        keys: As `RecordedRun.setting` takes them; without any all runs are one group.

    Returns:
        One group per combination of values, numbers first, then in the order of the alphabet.

    Raises:
        DistillError: No run has a key, or two runs of one group have the same seed and task.
    """
    for key in keys:
        if all(run.setting(key) is None for run in runs):
            known = {"algorithm"}.union(*(run.content["config"] for run in runs))
            raise DistillError(
                f"rows has the key {key!r}, which no run has. {nearest(key, known, list_known=False)}"
            )
    groups: dict[tuple[str, ...], list[RecordedRun]] = {}
    for run in sorted(runs, key=lambda run: [_order(run.setting(key)) for key in keys]):
        groups.setdefault(tuple(setting_text(run.setting(key)) for key in keys), []).append(run)
    return [RunGroup(labels, tuple(mine), _per_seed(mine)) for labels, mine in groups.items()]


def all_tasks(runs: Iterable[RecordedRun]) -> list[str]:
    """Every task that a run has, once."""
    return list(dict.fromkeys(task for run in runs for task in run.tasks))


def _per_seed(runs: Sequence[RecordedRun]) -> PerSeed:
    per_seed: dict[int | None, dict[str, RecordedRun]] = {}
    for run in sorted(runs, key=lambda run: (run.seed is None, run.seed)):
        trained = per_seed.setdefault(run.seed, {})
        for task in run.tasks:
            if task in trained:
                raise DistillError(
                    f"{trained[task].path.name} and {run.path.name} have the same seed ({run.seed}) and task "
                    f"({task!r}) in one row: leave one out, or part them by a key in rows or by sections."
                )
            trained[task] = run
    return per_seed


def _order(value: Any) -> tuple[bool, float, str]:
    """Numbers by their size, before texts; both before what is missing, whose dash comes late."""
    is_number = isinstance(value, int | float)
    return not is_number, float(value) if is_number else 0.0, setting_text(value)
