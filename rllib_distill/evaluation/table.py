"""The final table."""

import csv
import io
from collections.abc import Mapping
from typing import Any

import numpy as np
from rich.table import Table

from rllib_distill.evaluation.score_board import RANDOM, ScoreBoard

_HEADINGS = {"ratio": "student / expert", "normalised": "student, normalised"}


def score_table(board: ScoreBoard, title: str = "") -> Table:
    """Scores for a terminal: mean and, but for random play, standard deviation of the return per episode."""
    table = Table(
        title=title or None,
        title_justify="left",
        title_style="bold",
        caption=_caption(board),
        caption_justify="left",
    )
    table.add_column("game")
    for player in board.players:
        table.add_column(player, justify="right")
    if board.measure is not None:
        table.add_column(_HEADINGS[board.measure], justify="right", style="bold")
    for task in board.tasks:
        cells = [_score(board, player, task) for player in board.players]
        share = [_number(board.student_share(task))] if board.measure is not None else []
        table.add_row(task, *cells, *share)
    if board.measure is not None:
        table.add_section()
        table.add_row("geometric mean", *[""] * len(board.players), _number(board.geometric_mean))
    return table


def summary_table(boards: Mapping[str, ScoreBoard]) -> Table:
    """The geometric means of several trials, and their mean.

    Args:
        boards: Trial -> its scores.
    """
    means = {trial: board.geometric_mean for trial, board in boards.items()}
    known = [mean for mean in means.values() if mean is not None]
    table = Table("trial", title="all trials", title_justify="left", title_style="bold")
    table.add_column("geometric mean", justify="right", style="bold")
    for trial, mean in means.items():
        table.add_row(trial, _number(mean))
    table.add_section()
    table.add_row("mean ± std", f"{np.mean(known):.3f} ± {np.std(known):.3f}" if known else "-")
    return table


def score_csv(board: ScoreBoard) -> str:
    """The same as CSV, one row per task."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    columns = [f"{player}_{what}" for player in board.players for what in ("mean", "std")]
    share = [f"student_{board.measure}"] if board.measure is not None else []
    writer.writerow(["task", *columns, *share])
    for task in board.tasks:
        cells: list[Any] = [task]
        for player in board.players:
            cells += [_rounded(board.mean(player, task)), _rounded(board.std(player, task))]
        writer.writerow([*cells, *([_rounded(board.student_share(task))] if share else [])])
    return file.getvalue()


def _caption(board: ScoreBoard) -> str | None:
    if board.measure == "normalised":
        formula = "(student - random) / (expert - random)"
        return f"normalised: {formula},\nas a ratio means nothing where a score is 0 or less"
    return None


def _score(board: ScoreBoard, player: str, task: str) -> str:
    mean = f"{board.mean(player, task):.2f}"
    return mean if player == RANDOM else f"{mean} ± {board.std(player, task):.2f}"


def _number(share: float | None) -> str:
    return "-" if share is None else f"{share:.3f}"


def _rounded(value: float | None) -> float | str:
    return "" if value is None else round(value, 6)
