"""Experts that know how well they play."""

from dataclasses import replace
from pathlib import Path

from rllib_distill.evaluation.report import Report
from rllib_distill.evaluation.score_board import POLICY
from rllib_distill.experts import Expert


def note_expected_returns(folder: Path, report: Report) -> None:
    """Writes measured returns into the expert files that training exported, which know none yet.

    Args:
        folder: With `<task>.safetensors`; tasks without one are left out.
        report: On the policies that became these experts.
    """
    board, how = report.board, report.facts["evaluation"]
    for task in board.tasks if POLICY in board.players else ():
        path = folder / f"{task}.safetensors"
        if path.exists():
            expert = Expert.load(path)
            expert.info = replace(
                expert.info,
                expected_return={
                    "mean": board.mean(POLICY, task),
                    "std": board.std(POLICY, task),
                    "episodes": how["episodes"],
                    "epsilon": how["epsilon"],
                },
            )
            expert.save(path)
