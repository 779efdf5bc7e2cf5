"""A table of how well and how fast runs learned, and a picture of their curves."""

import math
from collections.abc import Sequence
from statistics import fmean, pstdev

from rllib_distill.evaluation.curve_groups import CurveGroup, CurveOptions, curve_groups
from rllib_distill.evaluation.curve_picture import curve_picture
from rllib_distill.evaluation.markdown import markdown_table, number_text, steps_text
from rllib_distill.evaluation.recorded_run import RecordedRun
from rllib_distill.evaluation.run_groups import all_tasks

_PER_MODULE = "algorithm_config_overrides_per_module."  # too long for a column


class CurveTable:
    """Compares runs by their returns while they trained; no experts are needed."""

    def __init__(self, runs: Sequence[RecordedRun], keys: Sequence[str], options: CurveOptions):
        """Groups the runs.

        Args:
            runs: At least one.
            keys: Settings; each combination of their values is a row.
            options: What a person may say.

        Raises:
            DistillError: See `curve_groups`.
        """
        self._groups = curve_groups(runs, keys, options)
        self._name = ", ".join(key.removeprefix(_PER_MODULE) for key in keys)
        self._options, self._tasks = options, all_tasks(runs)

    def to_markdown(self) -> str:
        """The table and a note on how to read it."""
        level = self._options.threshold
        reached = [] if level is None else [f"env steps to {level:g}"]
        others = ["areas of all settings"] if self._options.best_of else []
        header = [self._name, "area under the curve", "final return", *reached, *others, "seeds", "env steps"]
        rows = [self._row(group) for group in self._groups]
        return f"{markdown_table(header, rows, 1)}\n\n{self._note()}"

    def picture(self, title: str) -> bytes:
        """A line per row, as PNG."""
        return curve_picture(self._groups, self._tasks, title, self._name, self._options.threshold)

    def _row(self, group: CurveGroup) -> list[str]:
        level = self._options.threshold
        steps = math.inf if level is None else group.steps_until(level)
        reached = steps_text(steps if steps < math.inf else None)
        return [
            group.label,
            self._mean_text(group.areas),
            self._mean_text(group.final_returns),
            *([] if level is None else [reached]),
            *([self._range_text(group.candidates)] if self._options.best_of else []),
            str(len(group.runs)),
            steps_text(fmean(curve.end for curve in group.curves)),
        ]

    def _mean_text(self, of_seeds: Sequence[float]) -> str:
        """Mean and, of several seeds, standard deviation."""
        mean = number_text(fmean(of_seeds), self._digits)
        return mean if len(of_seeds) == 1 else f"{mean} ± {number_text(pstdev(of_seeds), self._digits)}"

    def _range_text(self, areas: Sequence[float]) -> str:
        """The least and the largest."""
        return f"{number_text(min(areas), self._digits)} to {number_text(max(areas), self._digits)}"

    @property
    def _digits(self) -> int:
        """Decimals, equally many in all the table."""
        largest = max(max(map(abs, group.areas)) for group in self._groups)
        return max(0, 3 - math.floor(math.log10(max(largest, 1.0))))

    def _note(self) -> str:
        group, level = self._groups[0], self._options.threshold
        notes = [
            "Area under the curve: mean return per episode while training, of all tasks, over the env steps "
            f"(of all tasks together) from {steps_text(group.start)} to {steps_text(group.end)}; final "
            "return: the same over the last tenth of them. Means ± standard deviations over seeds."
        ]
        if level is not None:
            notes.append(
                f"Env steps to {level:g}: until the mean return, over five points of the curve, first is at "
                "least that; the median of the seeds, one that never gets there being the last."
            )
        if self._options.best_of:
            keys = " and ".join(self._options.best_of)
            most = max(len(group.candidates) for group in self._groups)
            notes.append(
                f"Of the values of {keys}, the best by area are shown, out of up to {most} that were tried."
            )
        return " ".join(notes)
