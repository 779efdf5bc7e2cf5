"""Tables of recorded runs in Markdown: shares of the experts' scores, stability, and learning curves."""

import math
from collections.abc import Sequence
from typing import Annotated, Any

import numpy as np
import pandas as pd
from pydantic import AfterValidator, BeforeValidator, Field

from rllib_distill.errors import DistillError, nearest
from rllib_distill.evaluation.scores import Measure, geometric_mean, share_of_expert
from rllib_distill.results.runs import (
    RecordedRun,
    all_tasks,
    first_reach,
    mean_return,
    score_frame,
    setting_text,
)
from rllib_distill.schema import Schema

_MISSING = "-"
_PER_MODULE = "algorithm_config_overrides_per_module."  # a prefix that is too long for a heading
_SHARES = {
    "ratio": "student / expert",
    "normalised": "above random play, (student - random) / (expert - random), with random as measured",
}
_STABILITY_HEADER = ["game", "student, std", "teacher, std", "student / teacher", "student, final",
                     "teacher, final", "seeds"]  # fmt: skip
_STABILITY_NOTE = (
    "std: standard deviation of the evaluations' mean returns over the second half of training; final: mean "
    "return at the end; both are means over seeds. The last row is the geometric mean."
)


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]], num_names: int) -> str:
    """Returns a Markdown table; all columns but the first `num_names` are aligned to the right."""
    rule = ["---" if i < num_names else "---:" for i in range(len(header))]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (header, rule, *rows))


def number_text(value: float | None, digits: int = 3) -> str:
    """Writes a number with this many decimals; a dash if it is None or NaN."""
    return _MISSING if value is None or math.isnan(value) else f"{value:.{digits}f}"


def steps_text(steps: float) -> str:
    """Writes a number of steps as `8.5 million` or `850,000`; a dash if it is NaN or infinite."""
    if not math.isfinite(steps):
        return _MISSING
    return f"{steps / 1e6:.3g} million" if steps >= 1e6 else f"{steps:,.0f}"


def duration_text(seconds: float) -> str:
    """Writes a time in seconds as `45 s`, `28 min` or `2.5 h`; a dash if it is NaN."""
    if math.isnan(seconds):
        return _MISSING
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 100 * 60 else f"{seconds / 3600:.1f} h"


def share_table(runs: Sequence[RecordedRun], keys: Sequence[str]) -> str:
    """Makes a table of the runs' shares of their experts' scores.

    All are compared by the same measure, which is `normalised` if it is that of any run, else `ratio`.

    Args:
        runs: The runs, at least one.
        keys: Settings; each combination of their values is a row.

    Returns:
        The Markdown table, and a note that explains it.

    Raises:
        DistillError: As `score_frame`, or a task has no expert in any run.
    """
    frame, tasks = score_frame(runs, keys), all_tasks(runs)
    measure: Measure = "normalised" if any(run.scores.measure == "normalised" for run in runs) else "ratio"
    # A run without experts is compared with what the other runs' experts scored.
    expert = frame["expert"].fillna(frame.groupby("task")["expert"].transform("mean"))
    for task in frame["task"][expert.isna()]:
        raise DistillError(
            f"no run has an expert of {task!r} to compare with: add runs of a student that it taught."
        )
    shares = map(share_of_expert, [measure] * len(frame), frame["learner"], expert, frame["random"])
    frame["share"] = pd.Series(list(shares), dtype=float).mask(frame["unfinished"])
    rows = []
    for labels, row in frame.groupby(list(keys), sort=False):
        means = row.groupby("task")["share"].agg(lambda of_seeds: of_seeds.mean(skipna=False))
        by_seed = row.set_index(["seed", "task"])["share"].unstack(sort=False)  # NaN where a seed has no task
        totals = pd.Series(map(geometric_mean, by_seed.to_numpy()), dtype=float)
        training = row.drop_duplicates("run")[["env_steps", "seconds"]].mean(skipna=False)
        rows.append(
            [
                *labels,
                *(number_text(means.get(task)) for task in tasks),
                number_text(totals.mean(skipna=False)),
                ", ".join(map(number_text, totals)),
                ", ".join(by_seed.index),
                steps_text(training["env_steps"]),
                duration_text(training["seconds"]),
            ]
        )
    header = [*keys, *tasks, "geometric mean", "of each seed", "seeds", "env steps", "time"]
    return f"{markdown_table(header, rows, len(keys))}\n\n{_share_note(runs, measure)}"


def _share_note(runs: Sequence[RecordedRun], measure: Measure) -> str:
    played = "; or ".join(dict.fromkeys(map(_how_it_was_played, runs)))
    notes = [
        f"Shares of the experts: {_SHARES[measure]}, of the mean return of {played}; "
        "means over seeds. Env steps, of all games together, and time are those of one run."
    ]
    alone = sorted({run.scores.algorithm for run in runs if not run.has_experts})
    if alone:
        notes.append(
            f"{' and '.join(alone)} had no experts: its shares are of what the others' experts scored."
        )
    return " ".join(notes)


def _how_it_was_played(run: RecordedRun) -> str:
    how = run.scores.evaluation
    amount = f"an epoch of {how.steps:,} steps" if how.episodes is None else f"{how.episodes} episodes"
    return f"{amount} at epsilon {how.epsilon:g}"


def stability_frame(runs: Sequence[RecordedRun]) -> pd.DataFrame:
    """Makes a table of runs whose experts (teachers) were trained at the same time as their students.

    Args:
        runs: Runs of different seeds or tasks, at least one.

    Returns:
        The table of `score_frame`, with two more columns: `student_curve` and `teacher_curve`, the
        evaluations of the row's task during training (env steps -> mean return).

    Raises:
        DistillError: A run has no such evaluations, or two runs have the same seed and task.
    """
    frame = score_frame(runs, ())
    for name, who in (("student_curve", "student"), ("teacher_curve", "experts")):
        curves = [row.run.evaluated(who, row.task) for row in frame.itertuples()]
        frame[name] = pd.Series(curves, dtype=object)
    for row in frame.itertuples():
        if row.student_curve.empty or row.teacher_curve.empty:
            raise DistillError(
                f"{row.run.path.name} has no evaluations of {row.task!r} with an expert that learns: "
                "train with experts: online and an evaluation_interval."
            )
    return frame


def stability_table(runs: Sequence[RecordedRun]) -> str:
    """Makes a table that compares how much the returns of students and of learning teachers varied.

    Args:
        runs: The runs, as in `stability_frame`.

    Returns:
        The Markdown table, and a note that explains it.

    Raises:
        DistillError: As `stability_frame`.
    """
    frame = stability_frame(runs)
    frame["student_std"] = frame["student_curve"].map(_late_deviation)
    frame["teacher_std"] = frame["teacher_curve"].map(_late_deviation)
    means = frame.groupby("task")[["student_std", "teacher_std", "learner", "expert"]].mean()
    seeds = frame.groupby("task")["seed"].agg(", ".join)
    ratios = (means["student_std"] / means["teacher_std"].replace(0.0, np.nan)).loc[all_tasks(runs)]
    rows = [
        [
            task,
            *(number_text(deviation, 2) for deviation in means.loc[task, ["student_std", "teacher_std"]]),
            number_text(ratio),
            *(number_text(final, 2) for final in means.loc[task, ["learner", "expert"]]),
            seeds[task],
        ]
        for task, ratio in ratios.items()
    ]
    rows.append(["geometric mean", "", "", number_text(geometric_mean(ratios)), "", "", ""])
    return f"{markdown_table(_STABILITY_HEADER, rows, 1)}\n\n{_STABILITY_NOTE}"


def _late_deviation(curve: pd.Series) -> float:
    """Returns the standard deviation of a curve over the second half of training."""
    return _deviation(curve[curve.index >= curve.index[-1] / 2])


def _deviation(values: pd.Series) -> float:
    return float(values.std(ddof=0))


def _with_text_keys(labels: Any) -> Any:
    """Writes keys such as 0.5 and true, which are not texts in YAML, as labels are written."""
    return {setting_text(row): label for row, label in labels.items()} if isinstance(labels, dict) else labels


Texts = Annotated[
    tuple[str, ...],
    BeforeValidator(lambda texts: [texts] if isinstance(texts, str) else texts),
    AfterValidator(lambda texts: tuple(dict.fromkeys(texts))),
    Field(description="a text or a list of texts"),
]
"""One text or a list of texts; a repeated text counts once."""


class CurveOptions(Schema):
    """The options of a section of the kind `curves`.

    Attributes:
        threshold: A mean return; a column has the env steps until it is reached. None: no such column.
        from_env_steps: Number of env steps at which the area under a curve begins.
        labels: Maps the label of a row, which is its settings' values joined by commas, to a nicer one.
        best_of: Those of the rows' settings of which only the best values, with the largest area, are shown.
    """

    threshold: float | None = None
    from_env_steps: float = Field(default=0.0, ge=0)
    labels: Annotated[
        dict[str, str],
        BeforeValidator(_with_text_keys),
        Field(description="a mapping of rows to texts, e.g. {kl_2col: KL with 2 columns}"),
    ] = Field(default_factory=dict)
    best_of: Texts = ()


class CurveTable:
    """Compares runs, with or without experts, by their training returns over the env steps that all reached.

    Attributes:
        rows: The rows that are shown, the largest area first. Columns: `label`; `place`, the row's place in
            the order of settings; `runs`, one per seed, and `seeds`, their number; `env_steps` of a run, the
            mean; `area` and `final`, mean returns over the compared env steps and over their last tenth, and
            the standard deviations over seeds `area_std` and `final_std`; `reached`, the median number of env
            steps to the threshold; `largest`, the largest absolute area of a seed; `least`, `most` and
            `tried`, the smallest area, the largest area and the number of the rows that `best_of` chose from.
        tasks: The names of the tasks.
        name: The names of the rows' settings, joined by commas.
        options: The options.
    """

    def __init__(self, runs: Sequence[RecordedRun], keys: Sequence[str], options: CurveOptions):
        """Groups the runs into rows.

        Args:
            runs: The runs, at least one.
            keys: Settings; each combination of their values is a row.
            options: The options.

        Raises:
            DistillError: As `score_frame`; or a run has no curve of a task, or ends before `from_env_steps`;
                or `labels` has an unknown row or gives two rows the same label; or `best_of` has a setting
                that is not in `keys`, or all of `keys`.
        """
        frame, self.tasks = score_frame(runs, keys), all_tasks(runs)
        _check_curves(runs, self.tasks)
        _check_best_of(options.best_of, keys)
        self.options, self._end = options, _common_end(runs, options.from_env_steps)
        self.name = ", ".join(key.removeprefix(_PER_MODULE) for key in keys)
        self.rows = self._rows(frame.drop_duplicates("run"), list(keys))

    def to_markdown(self) -> str:
        """Returns the Markdown table, and a note that explains it."""
        level, best_of = self.options.threshold, self.options.best_of
        reached = [] if level is None else [f"env steps to {level:g}"]
        others = ["areas of all settings"] if best_of else []
        header = [self.name, "area under the curve", "final return", *reached, *others, "seeds", "env steps"]
        digits = max(0, 3 - math.floor(math.log10(max(self.rows["largest"].max(), 1.0))))
        rows = []
        for row in self.rows.itertuples():
            means = [number_text(mean, digits) for mean in (row.area, row.final)]
            if row.seeds > 1:
                means = [
                    f"{mean} ± {number_text(deviation, digits)}"
                    for mean, deviation in zip(means, (row.area_std, row.final_std), strict=True)
                ]
            span = f"{number_text(row.least, digits)} to {number_text(row.most, digits)}"
            rows.append(
                [
                    row.label,
                    *means,
                    *([] if level is None else [steps_text(row.reached)]),
                    *([span] if best_of else []),
                    str(row.seeds),
                    steps_text(row.env_steps),
                ]
            )
        return f"{markdown_table(header, rows, 1)}\n\n{self._note()}"

    def _rows(self, seeds: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
        """Aggregates a table with a row per run into the rows that are shown."""
        options, end = self.options, self._end
        start, level = options.from_env_steps, options.threshold
        curves = [run.mean_curve for run in seeds["run"]]
        last_tenth = end - (end - start) / 10
        seeds = seeds.assign(
            env_steps=[curve.index[-1] for curve in curves],
            area=[mean_return(curve, start, end) for curve in curves],
            final=[mean_return(curve, last_tenth, end) for curve in curves],
            reached=[math.inf if level is None else first_reach(curve, level, end) for curve in curves],
        )
        rows = (
            seeds.groupby(keys, sort=False)
            .agg(
                runs=("run", list),
                seeds=("run", "size"),
                env_steps=("env_steps", "mean"),
                area=("area", "mean"),
                area_std=("area", _deviation),
                final=("final", "mean"),
                final_std=("final", _deviation),
                reached=("reached", "median"),
                largest=("area", lambda areas: max(map(abs, areas))),
            )
            .reset_index()
        )
        rows["label"] = _labels(rows[keys].agg(", ".join, axis=1), options.labels)
        choices = rows.groupby([key for key in keys if key not in options.best_of], sort=False)
        rows["place"] = choices.ngroup()
        areas = choices["area"]
        rows = rows.assign(
            least=areas.transform("min"), most=areas.transform("max"), tried=areas.transform("size")
        )
        return rows.loc[areas.idxmax()].sort_values("area", ascending=False, kind="stable")

    def _note(self) -> str:
        level, best_of = self.options.threshold, self.options.best_of
        start = steps_text(self.options.from_env_steps)
        notes = [
            "Area under the curve: mean return per episode while training, of all tasks, over the env steps "
            f"(of all tasks together) from {start} to {steps_text(self._end)}; final return: the same over "
            "the last tenth of them. Means ± standard deviations over seeds."
        ]
        if level is not None:
            notes.append(
                f"Env steps to {level:g}: until the mean return, over five points of the curve, first is at "
                "least that; the median of the seeds, one that never gets there being the last."
            )
        if best_of:
            notes.append(
                f"Of the values of {' and '.join(best_of)}, the best by area are shown, out of up to "
                f"{self.rows['tried'].max()} that were tried."
            )
        return " ".join(notes)


def _check_best_of(best_of: Sequence[str], keys: Sequence[str]) -> None:
    for key in best_of:
        if key not in keys:
            raise DistillError(f"best_of has {key!r}, which rows has not. {nearest(key, keys)}")
    if best_of and set(best_of) == set(keys):
        raise DistillError(f"best_of has all of rows, {list(keys)!r}; leave out what is to be compared.")


def _check_curves(runs: Sequence[RecordedRun], tasks: Sequence[str]) -> None:
    for run in runs:
        missing = [task for task in tasks if task not in run.tasks]
        if missing:
            raise DistillError(
                f"{run.path.name} has no task {missing[0]!r}, which another run has; means over different "
                "tasks can't be compared: leave it out, or part them by sections."
            )
        if not run.scores.training_curve:
            raise DistillError(
                f"{run.path.name} has no training_curve: let `rllib evaluate CHECKPOINT --out scores.json` "
                "write it anew, with the checkpoint in its trial's folder, where its result.json is."
            )
        for task in tasks:
            if run.training_returns[task].isna().all():
                raise DistillError(
                    f"{run.path.name} has no return of {task!r}: not one episode of it ended while training. "
                    "Leave the run out, or train for longer."
                )


def _common_end(runs: Sequence[RecordedRun], start: float) -> float:
    """Returns the number of env steps that all runs reached."""
    shortest = min(runs, key=lambda run: run.mean_curve.index[-1])
    end = float(shortest.mean_curve.index[-1])
    if start >= end:
        raise DistillError(
            f"from_env_steps is {start:g}, but {shortest.path.name} was trained for {end:g} env "
            "steps; it must be less than that."
        )
    return end


def _labels(labels: pd.Series, nicer: dict[str, str]) -> pd.Series:
    for label in nicer:
        if label not in set(labels):
            raise DistillError(f"labels has {label!r}, which is no row. {nearest(label, labels)}")
    named = labels.map(lambda label: nicer.get(label, label))
    if named.duplicated().any():
        raise DistillError(f"labels is {nicer!r}, so that two rows are called the same; name them apart.")
    return named
