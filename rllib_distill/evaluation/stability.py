"""How steady students and their learning teachers were: a table, and a picture of their evaluations."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, pstdev

from rllib_distill.errors import DistillError
from rllib_distill.evaluation.markdown import markdown_table, number_text
from rllib_distill.evaluation.panels import BLUE, INK, make_panels, panels_png
from rllib_distill.evaluation.recorded_run import RecordedRun
from rllib_distill.evaluation.run_groups import all_tasks, group_runs
from rllib_distill.evaluation.score_board import EXPERT, STUDENT
from rllib_distill.evaluation.shares import geometric_mean

_CURVES, _PLAYERS = ("student", "experts"), (STUDENT, EXPERT)
_HEADER = ["game", "student, std", "teacher, std", "student / teacher", "student, final", "teacher, final",
           "seeds"]  # fmt: skip
_NOTE = (
    "std: standard deviation of the evaluations' mean returns over the second half of training; final: mean "
    "return at the end; both are means over seeds. The last row is the geometric mean."
)


@dataclass(frozen=True)
class Stability:
    """The evaluations of runs whose experts learned beside their students.

    Attributes:
        runs: Of different seeds or tasks.
    """

    runs: Sequence[RecordedRun]

    def __post_init__(self) -> None:
        """Raises DistillError where a run has no such evaluations, or two are of the same seed and task."""
        group_runs(self.runs, ())
        for run in self.runs:
            for task in run.tasks:
                if not all(run.curve(who, task)[0] for who in _CURVES):
                    raise DistillError(
                        f"{run.path.name} has no evaluations of {task!r} with an expert that learns: "
                        "train with experts: online and an evaluation_interval."
                    )

    def to_markdown(self) -> str:
        """The table and a note on how to read it."""
        tasks = all_tasks(self.runs)
        deviations = {task: self._deviations(task) for task in tasks}
        ratios = {
            task: student / teacher if teacher else None for task, (student, teacher) in deviations.items()
        }
        rows = [
            [
                task,
                *(number_text(deviation, 2) for deviation in deviations[task]),
                number_text(ratios[task]),
                *(number_text(self._final(who, task), 2) for who in _PLAYERS),
                ", ".join(str(run.seed) for run in self._runs_of(task)),
            ]
            for task in tasks
        ]
        rows.append(["geometric mean", "", "", number_text(geometric_mean(ratios.values())), "", "", ""])
        return f"{markdown_table(_HEADER, rows, 1)}\n\n{_NOTE}"

    def picture(self, title: str) -> bytes:
        """Curves of student and teacher per task, one per seed, as PNG."""
        figure, panels = make_panels(all_tasks(self.runs), title)
        for task, axes in panels.items():
            for run in self._runs_of(task):
                axes.plot(*run.curve("experts", task), color=INK, linewidth=1.0, alpha=0.6, label="teacher")
                axes.plot(*run.curve("student", task), color=BLUE, linewidth=1.4, alpha=0.8, label="student")
        return panels_png(figure, panels)

    def _runs_of(self, task: str) -> list[RecordedRun]:
        """In the order of seeds."""
        (group,) = group_runs(self.runs, ())
        return [trained[task] for trained in group.per_seed.values() if task in trained]

    def _final(self, player: str, task: str) -> float:
        return fmean(run.mean(player, task) for run in self._runs_of(task))

    def _deviations(self, task: str) -> tuple[float, float]:
        """Of student and teacher, means over seeds."""
        student, teacher = (
            fmean(_late_deviation(*run.curve(who, task)) for run in self._runs_of(task)) for who in _CURVES
        )
        return student, teacher


def _late_deviation(steps: Sequence[float], returns: Sequence[float]) -> float:
    """Standard deviation over the second half of training."""
    return pstdev(value for step, value in zip(steps, returns, strict=True) if step >= steps[-1] / 2)
