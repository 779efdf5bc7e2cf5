"""Reading what a page of results says: its title, its texts, its sections and their runs."""

from collections.abc import Mapping
from glob import glob
from pathlib import Path
from typing import Any

from rllib_distill.cli.yaml_file import read_yaml
from rllib_distill.errors import DistillError, nearest
from rllib_distill.evaluation.recorded_run import RecordedRun
from rllib_distill.evaluation.results_page import ResultsPage, Section

_PAGE_KEYS = ("title", "text", "sections")
_SECTION_KEYS = ("title", "text", "runs", "rows", "kind")
_KINDS = ("scores", "stability")


def read_page(path: Path) -> ResultsPage:
    """Reads a page and its runs.

    Args:
        path: Of YAML such as

            title: Results
            text: What all of it is about.           # Markdown, optional
            sections:
              - title: Three losses
                text: What is to be seen here.       # Markdown, optional
                runs: recorded/losses/*.json         # or a list; relative to this file
                rows: [loss]                         # settings; each combination of values is a row
                kind: scores                         # the default, or stability, which has no rows

    Raises:
        DistillError: What is wrong with the file, or with a run.
    """
    page = _checked(read_yaml(path, "results file"), str(path), _PAGE_KEYS)
    sections = page.get("sections")
    if not isinstance(sections, list) or not sections:
        raise DistillError(f"{path}: sections is {sections!r}; it must be a list of at least one section.")
    return ResultsPage(
        title=_text(page, "title", str(path)),
        text=_text(page, "text", str(path), ""),
        sections=[_section(section, i, path.parent) for i, section in enumerate(sections, 1)],
    )


def _section(spec: Any, number: int, folder: Path) -> Section:
    where = f"Section {number}"
    section = _checked(spec, where, _SECTION_KEYS)
    title = _text(section, "title", where)
    where = f"Section {title!r}"
    kind, rows = section.get("kind", "scores"), _texts(section, "rows", where)
    if kind not in _KINDS:
        raise DistillError(f"{where}: kind is {kind!r}. {nearest(str(kind), _KINDS)}")
    if bool(rows) == (kind == "stability"):
        rule = "leave it out: stability has a row per task" if rows else "give settings, e.g. [loss]"
        raise DistillError(f"{where}: rows is {list(rows)!r}; {rule}.")
    return Section(title, _text(section, "text", where, ""), kind, rows, _runs(section, where, folder))


def _runs(section: Mapping[str, Any], where: str, folder: Path) -> tuple[RecordedRun, ...]:
    patterns = _texts(section, "runs", where)
    if not patterns:
        raise DistillError(f"{where}: runs is missing; give files of runs, e.g. recorded/losses/*.json.")
    paths: dict[Path, None] = {}
    for pattern in patterns:
        found = sorted(glob(pattern, root_dir=folder, recursive=True))
        if not found:
            raise DistillError(
                f"{where}: runs is {pattern!r}, which is no file in {folder.resolve()}; "
                "`rllib record TRIAL... --to FOLDER` makes some."
            )
        paths |= dict.fromkeys(folder / name for name in found)
    return tuple(map(RecordedRun.read, paths))


def _checked(spec: Any, where: str, known: tuple[str, ...]) -> Mapping[str, Any]:
    if not isinstance(spec, Mapping):
        raise DistillError(f"{where} is {spec!r}; it must be a mapping with the keys {', '.join(known)}.")
    for key in spec:
        if key not in known:
            raise DistillError(f"{where}: unknown key {key!r}. {nearest(str(key), known)}")
    return spec


def _text(spec: Mapping[str, Any], key: str, where: str, default: str | None = None) -> str:
    value = spec.get(key, default)
    if not isinstance(value, str):
        raise DistillError(f"{where}: {key} is {value!r}; it must be text.")
    return value


def _texts(spec: Mapping[str, Any], key: str, where: str) -> tuple[str, ...]:
    """A text or a list of texts; none where the key is missing."""
    value = spec.get(key, [])
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise DistillError(f"{where}: {key} is {value!r}; it must be a text or a list of texts.")
    return tuple(texts)
