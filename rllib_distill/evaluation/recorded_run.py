"""The scores of a run that was recorded, to be compared with others."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rllib_distill.errors import DistillError
from rllib_distill.evaluation.json_text import json_text
from rllib_distill.evaluation.report import FORMAT
from rllib_distill.evaluation.score_board import EXPERT, POLICY, STUDENT
from rllib_distill.evaluation.training_record import task_curve

_KEYS = ("tasks", "algorithm", "evaluation", "training", "config", "versions", "command")


@dataclass(frozen=True)
class RecordedRun:
    """A run's scores and all that is known about how they were made.

    Attributes:
        path: Of the file.
        content: What `Report.to_json` wrote, with or without every episode's return.
    """

    path: Path
    content: Mapping[str, Any]

    @classmethod
    def read(cls, path: Path) -> "RecordedRun":
        """Reads a file.

        Args:
            path: Of a `scores.json`, or of what `rllib record` made of one.

        Raises:
            DistillError: It cannot be read, or another program or version wrote it.
        """
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise DistillError(f"Cannot read {path}: {error.strerror}.") from None
        except ValueError as error:
            raise DistillError(f"{path} is not valid JSON ({error}).") from None
        found = content.get("format") if isinstance(content, Mapping) else None
        if found != FORMAT:
            raise DistillError(
                f"{path} has the format {found!r}; it must be {FORMAT!r}: "
                "let `rllib evaluate CHECKPOINT --out scores.json` write it anew."
            )
        missing = [key for key in _KEYS if key not in content]
        if missing:
            raise DistillError(f"{path} is not a whole report: {', '.join(map(repr, missing))} missing.")
        return cls(path, content)

    def compact(self) -> str:
        """All but the lists of every episode's return, as JSON; paths below the working folder relative."""
        tasks = {
            task: {
                player: {key: value for key, value in score.items() if key != "returns"}
                if isinstance(score, Mapping)
                else score
                for player, score in scores.items()
            }
            for task, scores in self.content["tasks"].items()
        }
        return json_text({**self.content, "tasks": tasks}).replace(f"{Path.cwd()}/", "") + "\n"

    @property
    def algorithm(self) -> str:
        """Its name."""
        return str(self.content["algorithm"])

    @property
    def seed(self) -> int | None:
        """Of the training; None if none was given."""
        seed: int | None = self.content["training"]["seed"]
        return seed

    @property
    def tasks(self) -> tuple[str, ...]:
        """Their names."""
        return tuple(self.content["tasks"])

    @property
    def is_normalised(self) -> bool:
        """Whether student and experts were compared above random play."""
        return self.content.get("measure") == "normalised"

    @property
    def has_experts(self) -> bool:
        """Whether there is a student that experts taught."""
        return all(EXPERT in scores for scores in self.content["tasks"].values())

    @property
    def learner(self) -> str:
        """The player that was trained."""
        return STUDENT if self.has_experts else POLICY

    def mean(self, player: str, task: str) -> float:
        """Mean return per episode."""
        return float(self.content["tasks"][task][player]["mean"])

    def curve(self, who: str, task: str) -> tuple[list[float], list[float]]:
        """Evaluations while it trained, see `task_curve`; empty where there were none."""
        return task_curve(self.content.get("evaluations", ()), who, task)

    def training_curve(self, task: str) -> tuple[list[float], list[float]]:
        """Returns while it trained, see `task_curve`; empty where none were kept."""
        return task_curve(self.content.get("training_curve", ()), "returns", task)

    def is_unfinished(self, task: str) -> bool:
        """Whether someone's score is of episodes that were cut off, and can be compared with nothing."""
        scores = self.content["tasks"][task].values()
        return any(isinstance(score, Mapping) and score.get("unfinished", False) for score in scores)

    def setting(self, key: str) -> Any:
        """What the run was configured with.

        Args:
            key: `algorithm`, or a key of the config; `network.type` reaches inside.

        Returns:
            None where there is no such setting.
        """
        if key == "algorithm":
            return self.algorithm
        value: Any = self.content["config"]
        for part in key.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        return value
