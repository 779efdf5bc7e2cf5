"""Experts that know how well they play."""

from dataclasses import replace
from pathlib import Path

from rllib_distill.evaluation.report import Report
from rllib_distill.evaluation.score_board import POLICY
from rllib_distill.experts import Expert


def note_expected_returns(folder: Path, report: Report) -> None:
    """Writes measured returns into the expert files that training exported, which know none yet.

    Args:
        folder: With `<task>.safetensors`; tasks without one are left out, and those of which not one
            episode ended.
        report: On the policies that became these experts.
    """
    board = report.board
    for task in board.tasks if POLICY in board.players else ():
        path = folder / f"{task}.safetensors"
        if path.exists() and not board.is_unfinished(POLICY, task):
            expert = Expert.load(path)
            expert.info = replace(
                expert.info,
                expected_return={
                    "mean": board.mean(POLICY, task),
                    "std": board.std(POLICY, task),
                    "episodes": board.num_episodes(POLICY, task),
                    "epsilon": report.facts["evaluation"]["epsilon"],
                },
            )
            expert.save(path)
