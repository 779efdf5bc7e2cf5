"""A page of results in Markdown, made from recorded runs; the same runs make the same page."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from rllib_distill.errors import DistillError
from rllib_distill.evaluation.curve_groups import CurveOptions
from rllib_distill.evaluation.curve_table import CurveTable
from rllib_distill.evaluation.files import write_atomically
from rllib_distill.evaluation.recorded_run import RecordedRun
from rllib_distill.evaluation.share_table import ShareTable
from rllib_distill.evaluation.stability import Stability


@dataclass(frozen=True)
class Section:
    """Runs that belong together.

    Attributes:
        title: Of the section.
        text: Markdown above the table.
        kind: `scores` compares students with experts, `stability` with teachers that learned beside them;
            `curves` compares any runs by their returns while they trained.
        rows: Settings whose values are the rows of `scores` and `curves`.
        runs: At least one.
        curves: Of `curves`.
    """

    title: str
    text: str
    kind: Literal["scores", "stability", "curves"]
    rows: tuple[str, ...]
    runs: tuple[RecordedRun, ...]
    curves: CurveOptions = field(default_factory=CurveOptions)


@dataclass(frozen=True)
class ResultsPage:
    """What a page says.

    Attributes:
        title: Of the page.
        text: Markdown below it.
        sections: In order.
    """

    title: str
    text: str
    sections: Sequence[Section]

    def write(self, path: Path, command: str) -> list[Path]:
        """Writes the page, and its pictures beside it.

        Args:
            path: Of the page; its folder exists.
            command: That the user gave, for the record.

        Returns:
            The files.

        Raises:
            DistillError: The runs of a section do not fit together; nothing is written.
        """
        pictures: dict[str, bytes] = {}
        parts = [f"# {self.title}", self.text]
        for section in self.sections:
            parts += [f"## {section.title}", section.text, *_content(section, path.stem, pictures)]
        parts += ["## How this page was made", self._provenance(command)]
        page = "\n\n".join(part.strip() for part in parts if part.strip()) + "\n"
        contents = {**pictures, path.name: page.encode()}
        for name, content in contents.items():
            write_atomically(path.parent / name, content)
        return [path.parent / name for name in contents]

    def _provenance(self, command: str) -> str:
        runs = {run.path: run for section in self.sections for run in section.runs}.values()
        commands = Counter(str(run.content["command"]) for run in runs)
        versions = {", ".join(f"{name} {v}" for name, v in run.content["versions"].items()) for run in runs}
        lines = [
            f"`{command}` wrote it from {_count(len(runs), 'recorded run')}, which these commands made:",
            "",
        ]
        lines += [f"- `{trained}` ({_count(number, 'run')})" for trained, number in sorted(commands.items())]
        return "\n".join([*lines, "", f"With {'; or '.join(sorted(versions))}."])


def _content(section: Section, stem: str, pictures: dict[str, bytes]) -> list[str]:
    """The section's parts; its picture goes into `pictures` by name."""
    table: Stability | CurveTable
    try:
        if section.kind == "scores":
            return [ShareTable(section.runs, section.rows).to_markdown()]
        if section.kind == "curves":
            table, of_what = CurveTable(section.runs, section.rows, section.curves), "returns"
        else:
            table, of_what = Stability(section.runs), "evaluations"
    except DistillError as error:
        raise DistillError(f"Section {section.title!r}: {error}") from None
    name = f"{stem}_{re.sub(r'[^a-z0-9]+', '_', section.title.lower()).strip('_')}.png"
    pictures[name] = table.picture(section.title)
    return [table.to_markdown(), f"![{section.title}: {of_what} while training]({name})"]


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
