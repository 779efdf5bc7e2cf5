"""`rllib evaluate`, and the report after training: plays for the scores, prints and writes them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from rllib_distill.cli.experiment import ReportOptions
from rllib_distill.cli.progress import make_console
from rllib_distill.cli.ray_session import check_writable, command_line, ray_session, short
from rllib_distill.evaluation import Report, ScoreBoard, make_report
from rllib_distill.evaluation.play import TrainedPolicies
from rllib_distill.evaluation.report import note_expected_returns
from rllib_distill.evaluation.scores import score_table
from rllib_distill.files import write_atomically


def evaluate_checkpoint(
    checkpoint: Path, options: ReportOptions, *, out: Path | None, ray_options: Mapping[str, Any]
) -> int:
    """Evaluates a checkpoint and prints a table of the scores.

    Args:
        checkpoint: The checkpoint's folder.
        options: How to play.
        out: The .json or .csv file for the scores; None writes no file.
        ray_options: The options of `ray_session`.

    Returns:
        The exit code.

    Raises:
        DistillError: The checkpoint cannot be read or its config is wrong, or `out` cannot be written.
    """
    TrainedPolicies(checkpoint).config.validate()  # reports mistakes before Ray is started
    if out is not None:
        check_writable(out.resolve().parent, "--out")
    console = make_console()
    with ray_session(ray_options):
        report = _play(console, checkpoint, options, command_line())
    console.print(score_table(report.board))
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        text = report.to_json() if out.suffix == ".json" else report.to_csv()
        write_atomically(out, text.encode())
        console.print(f"written: {out}", soft_wrap=True)
    return 0


def report_trial(
    console: Console, title: str, checkpoint: Path, options: ReportOptions, command: str
) -> ScoreBoard:
    """Evaluates a trial's last checkpoint, prints a table, and writes the report into the trial's folder.

    Args:
        console: The console to print on.
        title: The title of the table.
        checkpoint: The checkpoint, inside of the trial's folder.
        options: How to play.
        command: The user's command, which the report mentions.

    Returns:
        The scores.

    Raises:
        DistillError: The checkpoint or an expert cannot be read, or the report cannot be written.
    """
    report = _play(console, checkpoint, options, command)
    console.print(score_table(report.board, title))
    if options.expected is not None:
        console.print(beside_expected(report.board.geometric_mean, options.expected), soft_wrap=True)
    files = report.write(checkpoint.parent)
    note_expected_returns(checkpoint / "experts", report)
    console.print(f"  {short(checkpoint.parent)}/", soft_wrap=True)
    console.print(f"    {', '.join(path.name for path in [*files, checkpoint])}", soft_wrap=True)
    return report.board


def beside_expected(mean: float | None, expected: tuple[float, float]) -> str:
    """Returns a line that compares a geometric mean with an expected range.

    Args:
        mean: The geometric mean; None if there is none.
        expected: The lowest and the highest value of the range.
    """
    lowest, highest = expected
    where = "below" if mean is None or mean < lowest else "above" if mean > highest else "within"
    colour = {"below": "red", "within": "green", "above": "green"}[where]
    value = "none" if mean is None else f"{mean:.3f}"
    return (
        f"expected of this file: {lowest:.2f} to {highest:.2f} (geometric mean); "
        f"this run: [{colour}]{value}, {where} that[/]"
    )


def _play(console: Console, checkpoint: Path, options: ReportOptions, command: str) -> Report:
    """Makes the report, and shows a progress bar on a terminal or one line elsewhere."""
    what = f"playing {options.amount} of every task"
    settings = {**options.model_dump(exclude={"expected"}), "command": command}
    if not console.is_terminal:
        console.print(what)
        return make_report(checkpoint, **settings)
    columns = (TextColumn("{task.description}"), BarColumn(30), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        bar = progress.add_task(what)

        def show(done: int, of: int) -> None:
            progress.update(bar, completed=done, total=of)

        return make_report(checkpoint, on_progress=show, **settings)
