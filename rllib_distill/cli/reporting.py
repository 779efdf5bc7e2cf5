"""After training: final scores, their table and their files."""

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from rllib_distill.cli.experiment import ReportOptions
from rllib_distill.cli.ray_session import short
from rllib_distill.evaluation import Report, ScoreBoard, make_report
from rllib_distill.evaluation.report import note_expected_returns
from rllib_distill.evaluation.scores import score_table


def report_trial(
    console: Console, title: str, checkpoint: Path, options: ReportOptions, command: str
) -> ScoreBoard:
    """Plays with a trial's last checkpoint, prints the table, and writes files into the trial's folder.

    Args:
        console: To show it on.
        title: Of the table.
        checkpoint: In the trial's folder.
        options: How to play.
        command: That the user gave, for the record.

    Returns:
        The scores.
    """
    report = play_with_progress(console, checkpoint, options, command)
    console.print(score_table(report.board, title))
    if options.expected is not None:
        console.print(beside_expected(report.board.geometric_mean, options.expected), soft_wrap=True)
    files = report.write(checkpoint.parent)
    note_expected_returns(checkpoint / "experts", report)
    console.print(f"  {short(checkpoint.parent)}/", soft_wrap=True)
    console.print(f"    {', '.join(path.name for path in [*files, checkpoint])}", soft_wrap=True)
    return report.board


def beside_expected(mean: float | None, expected: tuple[float, float]) -> str:
    """How a geometric mean compares with the lowest and the highest of recorded runs, in one line."""
    lowest, highest = expected
    where = "below" if mean is None or mean < lowest else "above" if mean > highest else "within"
    colour = {"below": "red", "within": "green", "above": "green"}[where]
    value = "none" if mean is None else f"{mean:.3f}"
    return (
        f"expected of this file: {lowest:.2f} to {highest:.2f} (geometric mean); "
        f"this run: [{colour}]{value}, {where} that[/]"
    )


def play_with_progress(console: Console, checkpoint: Path, options: ReportOptions, command: str) -> Report:
    """Plays, with a bar on a terminal and one line elsewhere.

    Args:
        console: To show it on.
        checkpoint: Whose policies play.
        options: How to play.
        command: That the user gave, for the record.
    """
    what = f"playing {options.amount} of every task"
    settings: dict[str, Any] = {**vars(options), "command": command}
    del settings["expected"]
    if not console.is_terminal:
        console.print(what)
        return make_report(checkpoint, **settings)
    columns = (TextColumn("{task.description}"), BarColumn(30), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        bar = progress.add_task(what)

        def show(done: int, of: int) -> None:
            progress.update(bar, completed=done, total=of)

        return make_report(checkpoint, on_progress=show, **settings)
