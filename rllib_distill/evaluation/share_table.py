"""A table of results: a row per setting, and how good its students are beside the experts."""

from collections.abc import Sequence
from statistics import fmean

from rllib_distill.errors import DistillError
from rllib_distill.evaluation.markdown import duration_text, markdown_table, number_text, steps_text
from rllib_distill.evaluation.recorded_run import RecordedRun
from rllib_distill.evaluation.run_groups import RunGroup, all_tasks, group_runs
from rllib_distill.evaluation.score_board import EXPERT, RANDOM
from rllib_distill.evaluation.shares import Measure, geometric_mean, share_of_expert

_SHARES = {
    "ratio": "student / expert",
    "normalised": "above random play, (student - random) / (expert - random), with random as measured",
}


class ShareTable:
    """Compares runs with the experts, all by one measure: above random play if it is any run's."""

    def __init__(self, runs: Sequence[RecordedRun], keys: Sequence[str]):
        """Groups the runs.

        Args:
            runs: At least one.
            keys: Settings; each combination of their values is a row.

        Raises:
            DistillError: See `group_runs`; or a run has no experts, and no other run has one of its tasks.
        """
        self._keys = keys
        self._groups = group_runs(runs, keys)
        self._runs = runs
        self._tasks = all_tasks(runs)
        self._measure: Measure = "normalised" if any(run.is_normalised for run in runs) else "ratio"
        self._experts = {task: self._measured_expert(task) for task in self._tasks}

    def to_markdown(self) -> str:
        """The table and a note on how to read it."""
        header = [*self._keys, *self._tasks, "geometric mean", "of each seed", "seeds", "env steps", "time"]
        rows = [self._row(group) for group in self._groups]
        return f"{markdown_table(header, rows, len(self._keys))}\n\n{self._note()}"

    def _row(self, group: RunGroup) -> list[str]:
        shares = [
            {task: self._share(run, task) for task, run in trained.items()}
            for trained in group.per_seed.values()
        ]
        tasks = all_tasks(group.runs)
        totals = [geometric_mean(of_seed.get(task) for task in tasks) for of_seed in shares]
        return [
            *group.labels,
            *(_mean_text([of_seed[task] for of_seed in shares if task in of_seed]) for task in self._tasks),
            _mean_text(totals),
            ", ".join(map(number_text, totals)),
            ", ".join(map(str, group.per_seed)),
            steps_text(_mean([run.content["training"]["env_steps"] for run in group.runs])),
            duration_text(_mean([run.content["training"]["seconds"] for run in group.runs])),
        ]

    def _share(self, run: RecordedRun, task: str) -> float | None:
        if run.is_unfinished(task):
            return None
        expert = run.mean(EXPERT, task) if run.has_experts else self._experts[task]
        return share_of_expert(self._measure, run.mean(run.learner, task), expert, run.mean(RANDOM, task))

    def _measured_expert(self, task: str) -> float:
        means = [run.mean(EXPERT, task) for run in self._runs if run.has_experts and task in run.tasks]
        if not means:
            raise DistillError(
                f"no run has an expert of {task!r} to compare with: add runs of a student that it taught."
            )
        return fmean(means)

    def _note(self) -> str:
        played = "; or ".join(dict.fromkeys(map(_how_it_was_played, self._runs)))
        notes = [
            f"Shares of the experts: {_SHARES[self._measure]}, of the mean return of {played}; "
            "means over seeds. Env steps, of all games together, and time are those of one run."
        ]
        alone = sorted({run.algorithm for run in self._runs if not run.has_experts})
        if alone:
            notes.append(
                f"{' and '.join(alone)} had no experts: its shares are of what the others' experts scored."
            )
        return " ".join(notes)


def _how_it_was_played(run: RecordedRun) -> str:
    how = run.content["evaluation"]
    amount = f"{how['episodes']} episodes" if "episodes" in how else f"an epoch of {how['steps']:,} steps"
    return f"{amount} at epsilon {how['epsilon']:g}"


def _mean(values: Sequence[float | None]) -> float | None:
    """Of all; None if there are none, or one is missing."""
    known = [value for value in values if value is not None]
    return fmean(known) if known and len(known) == len(values) else None


def _mean_text(values: Sequence[float | None]) -> str:
    return number_text(_mean(values))
