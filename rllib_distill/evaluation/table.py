"""The final table."""

import csv
import io
from collections.abc import Mapping
from typing import Any

import numpy as np
from rich.table import Table

from rllib_distill.evaluation.score_board import RANDOM, ScoreBoard

_HEADINGS = {"ratio": "student / expert", "normalised": "student / expert,\nabove random"}


def score_table(board: ScoreBoard, title: str = "") -> Table:
    """Scores for a terminal: mean and, but for random play, standard deviation of the return per episode."""
    table = Table(
        title=title or None,
        title_justify="left",
        title_style="bold",
        caption=_caption(board) or None,
        caption_justify="left",
    )
    table.add_column("task", no_wrap=True)
    for player in board.players:
        table.add_column(player, justify="right")
    if board.measure is not None:
        table.add_column(_HEADINGS[board.measure], justify="right", style="bold")
    for player in _beside_a_human(board):
        table.add_column(f"{player},\nhuman-\nnorm.", justify="right")
    for task in board.tasks:
        cells = [_score(board, player, task) for player in board.players]
        share = [_number(board.student_share(task))] if board.measure is not None else []
        human = [_number(board.human_normalised(player, task)) for player in _beside_a_human(board)]
        table.add_row(task, *cells, *share, *human)
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
    """The same as CSV, one row per task; an `unfinished` player's score is of episodes that were cut off."""
    rows = [_csv_row(board, task) for task in board.tasks]
    file = io.StringIO()
    writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue()


def _csv_row(board: ScoreBoard, task: str) -> dict[str, Any]:
    row: dict[str, Any] = {"task": task}
    for player in board.players:
        row[f"{player}_mean"] = _rounded(board.mean(player, task))
        row[f"{player}_std"] = _rounded(board.std(player, task))
        row[f"{player}_episodes"] = board.num_episodes(player, task)
    if board.measure is not None:
        row[f"student_{board.measure}"] = _rounded(board.student_share(task))
    for player in _beside_a_human(board):
        row[f"{player}_human_normalised"] = _rounded(board.human_normalised(player, task))
    row["epsilon"] = "" if board.epsilon is None else board.epsilon
    if board.steps is not None:
        row["steps"] = board.steps
        row["unfinished"] = " ".join(player for player in board.players if board.is_unfinished(player, task))
    return row


def _beside_a_human(board: ScoreBoard) -> list[str]:
    """Whose scores are normalised: all but random play's, which is a yardstick itself; none without games."""
    return [player for player in board.players if player != RANDOM] if board.games else []


def _caption(board: ScoreBoard) -> str:
    lines = [_how_it_was_played(board)]
    if any(board.is_unfinished(player, task) for player in board.players for task in board.tasks):
        lines.append("*: not one episode ended; the score of what was cut off is compared with nothing")
    if board.measure == "normalised":
        lines.append("above random: (student - random) / (expert - random), with random as measured;")
        lines.append("a plain ratio means nothing where scores can be 0 or less")
    if board.games:
        lines.append("human-norm.: human-normalised, (score - random) / (human - random), with both")
        lines.append("from Wang et al. 2016")
    return "\n".join(lines)


def _how_it_was_played(board: ScoreBoard) -> str:
    epsilon = "" if board.epsilon is None else f", epsilon {board.epsilon:g}"
    if board.steps is not None:
        return f"mean ± std over the episodes (n) that ended within {board.steps:,} steps{epsilon}"
    counts = {board.num_episodes(player, task) for player in board.players for task in board.tasks}
    episodes = " to ".join(str(n) for n in sorted({min(counts), max(counts)}))
    return f"mean ± std over {episodes} episodes{epsilon}"


def _score(board: ScoreBoard, player: str, task: str) -> str:
    mean = f"{board.mean(player, task):.2f}"
    score = mean if player == RANDOM else f"{mean} ± {board.std(player, task):.2f}"
    if board.steps is None:
        return score
    return f"{score} ({board.num_episodes(player, task)}){'*' if board.is_unfinished(player, task) else ''}"


def _number(share: float | None) -> str:
    return "-" if share is None else f"{share:.3f}"


def _rounded(value: float | None) -> float | str:
    return "" if value is None else round(value, 6)
