"""Pages of results in Markdown, made from recorded runs; the same runs always make the same page."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from glob import glob
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from rllib_distill.errors import DistillError
from rllib_distill.files import read_yaml, write_all_atomically
from rllib_distill.results.plots import curve_picture, stability_picture
from rllib_distill.results.runs import RecordedRun
from rllib_distill.results.tables import CurveOptions, CurveTable, Texts, share_table, stability_table
from rllib_distill.schema import Schema, validate


class Section(CurveOptions):
    """A section of a page: a text, and a table that compares recorded runs; `read_page` shows its keys.

    The kind `scores` compares students with their experts. `stability` compares students with experts that
    were trained at the same time, with a row per task. `curves` compares any runs by their training returns;
    only this kind has `CurveOptions`.
    """

    title: str
    text: str = ""
    runs: Annotated[Texts, Field(min_length=1, description="files of runs, e.g. recorded/losses/*.json")]
    rows: Texts = ()
    kind: Literal["scores", "stability", "curves"] = "scores"

    @model_validator(mode="after")
    def _fits_its_kind(self) -> "Section":
        if bool(self.rows) == (self.kind == "stability"):
            rule = "leave it out: stability has a row per task" if self.rows else "give settings, e.g. [loss]"
            raise DistillError(f"Section {self.title!r}: rows is {list(self.rows)!r}; {rule}.")
        of_curves = [key for key in CurveOptions.model_fields if key in self.model_fields_set]
        if of_curves and self.kind != "curves":
            raise DistillError(
                f"Section {self.title!r}: {of_curves[0]} is for kind: curves; leave it out, kind is "
                f"{self.kind!r}."
            )
        return self


class PageFile(Schema):
    """The content of a page's YAML file: a title, a text in Markdown, and the sections in order."""

    title: str
    text: str = ""
    sections: Annotated[tuple[Section, ...], Field(min_length=1)]


@dataclass(frozen=True)
class ResultsPage:
    """A page of results, with the runs of its sections.

    Attributes:
        file: The content of the page's YAML file.
        runs: The runs of each section, at least one per section.
    """

    file: PageFile
    runs: Sequence[Sequence[RecordedRun]]

    def write(self, path: Path, command: str) -> list[Path]:
        """Writes the page, and its plots into the same folder.

        Args:
            path: The path of the page.
            command: The user's command, which the page mentions.

        Returns:
            The paths of the files.

        Raises:
            DistillError: The runs of a section do not fit together, or a file cannot be written; then no file
                is written.
        """
        pictures: dict[str, bytes] = {}
        parts = [f"# {self.file.title}", self.file.text]
        for section, runs in zip(self.file.sections, self.runs, strict=True):
            try:
                table, picture = _content(section, runs)
            except DistillError as error:
                raise DistillError(f"Section {section.title!r}: {error}") from None
            parts += [f"## {section.title}", section.text, table]
            if picture is not None:
                name = f"{path.stem}_{re.sub(r'[^a-z0-9]+', '_', section.title.lower()).strip('_')}.png"
                of_what = "returns" if section.kind == "curves" else "evaluations"
                parts.append(f"![{section.title}: {of_what} while training]({name})")
                pictures[name] = picture
        parts += ["## How this page was made", self._provenance(command)]
        page = "\n\n".join(part.strip() for part in parts if part.strip()) + "\n"
        contents = {path.parent / name: content for name, content in pictures.items()}
        contents[path] = page.encode()
        write_all_atomically(contents)
        return list(contents)

    def _provenance(self, command: str) -> str:
        runs = {run.path: run.scores for of_section in self.runs for run in of_section}.values()
        commands = Counter(run.command for run in runs)
        versions = {", ".join(f"{name} {v}" for name, v in run.versions.items()) for run in runs}
        lines = [
            f"`{command}` wrote it from {_count(len(runs), 'recorded run')}, which these commands made:",
            "",
        ]
        lines += [f"- `{trained}` ({_count(number, 'run')})" for trained, number in sorted(commands.items())]
        return "\n".join([*lines, "", f"With {'; or '.join(sorted(versions))}."])


def read_page(path: Path) -> ResultsPage:
    """Reads a page's YAML file and the runs that it names.

    Args:
        path: The path of a YAML file such as

            title: Results
            text: What the page is about.            # Markdown, optional
            sections:
              - title: Three losses
                text: What the table shows.          # Markdown, optional
                runs: recorded/losses/*.json         # or a list; relative to this file
                rows: [loss]                         # settings; each combination of values is a row
                kind: scores                         # the default; or stability, without rows; or curves
              - title: How fast each learns
                runs: recorded/distral/*.json
                rows: [variant, beta]
                kind: curves                         # of training returns; all keys below are optional
                threshold: 0.8                       # adds the env steps until this mean return is reached
                from_env_steps: 100000               # the area under the curve begins here; default 0
                labels: {"kl_2col, 5": 2 columns}    # nicer labels of rows
                best_of: [beta]                      # only the best values of these settings are shown

    Returns:
        The page.

    Raises:
        DistillError: The file or a run cannot be read, or has a wrong key or value.
    """
    file = validate(PageFile, read_yaml(path, "results file"), str(path))
    return ResultsPage(file, [_read_runs(section, path.parent) for section in file.sections])


def _read_runs(section: Section, folder: Path) -> list[RecordedRun]:
    paths: dict[Path, None] = {}
    for pattern in section.runs:
        found = sorted(glob(pattern, root_dir=folder, recursive=True))
        if not found:
            raise DistillError(
                f"Section {section.title!r}: runs is {pattern!r}, which is no file in {folder.resolve()}; "
                "`rllib record TRIAL... --to FOLDER` makes some."
            )
        paths |= dict.fromkeys(folder / name for name in found)
    return list(map(RecordedRun.read, paths))


def _content(section: Section, runs: Sequence[RecordedRun]) -> tuple[str, bytes | None]:
    """Returns the section's table and, if its kind has one, its plot."""
    if section.kind == "scores":
        return share_table(runs, section.rows), None
    if section.kind == "stability":
        return stability_table(runs), stability_picture(runs, section.title)
    table = CurveTable(runs, section.rows, section)
    return table.to_markdown(), curve_picture(table, section.title)


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
