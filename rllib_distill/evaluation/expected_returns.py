"""Experts that know how well they play."""

from pathlib import Path

from rllib_distill.evaluation.report import Report
from rllib_distill.evaluation.score_board import EXPERT, POLICY
from rllib_distill.experts import Expert


def note_expected_returns(folder: Path, report: Report) -> None:
    """Writes measured returns into the expert files that training exported, which know none yet.

    Args:
        folder: With `<task>.safetensors`; tasks without one are left out, and those of which not one
            episode ended.
        report: On the policies, or the experts that learned beside a student, that became these files.
    """
    board = report.board
    player = POLICY if POLICY in board.players else EXPERT
    for task in board.tasks:
        path = folder / f"{task}.safetensors"
        if path.exists() and not board.is_unfinished(player, task):
            expert = Expert.load(path)
            expected_return = {
                "mean": board.mean(player, task),
                "std": board.std(player, task),
                "episodes": board.num_episodes(player, task),
                "epsilon": report.facts["evaluation"]["epsilon"],
            }
            expert.info = expert.info.model_copy(update={"expected_return": expected_return})
            expert.save(path)
