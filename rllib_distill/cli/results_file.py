"""Reading what a page of results says: its title, its texts, its sections and their runs."""

import math
from collections.abc import Mapping
from glob import glob
from pathlib import Path
from typing import Any

from rllib_distill.cli.yaml_file import read_yaml
from rllib_distill.errors import DistillError, nearest
from rllib_distill.evaluation.curve_groups import CurveOptions
from rllib_distill.evaluation.markdown import setting_text
from rllib_distill.evaluation.recorded_run import RecordedRun
from rllib_distill.evaluation.results_page import ResultsPage, Section

_PAGE_KEYS = ("title", "text", "sections")
_CURVE_KEYS = ("threshold", "from_env_steps", "labels", "best_of")
_SECTION_KEYS = ("title", "text", "runs", "rows", "kind", *_CURVE_KEYS)
_KINDS = ("scores", "stability", "curves")


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
                kind: scores                         # the default; or stability, which has no rows; or curves
              - title: How fast each learns
                runs: recorded/distral/*.json
                rows: [variant]
                kind: curves                         # of the returns while training; these have, if you like:
                threshold: 0.8                       # a mean return; the env steps until it are compared
                from_env_steps: 100000               # where the area under a curve begins, default 0
                labels: {kl_2col: KL with 2 columns} # nicer names of rows
                best_of: [beta]                      # settings among rows of which the best values are shown

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
    of_curves = [key for key in _CURVE_KEYS if key in section]
    if of_curves and kind != "curves":
        raise DistillError(f"{where}: {of_curves[0]} is for kind: curves; leave it out, kind is {kind!r}.")
    text, runs = _text(section, "text", where, ""), _runs(section, where, folder)
    return Section(title, text, kind, rows, runs, _curve_options(section, where))


def _curve_options(section: Mapping[str, Any], where: str) -> CurveOptions:
    start = _number(section, "from_env_steps", where) or 0.0
    if start < 0:
        raise DistillError(f"{where}: from_env_steps is {start:g}; it must be at least 0.")
    labels = section.get("labels", {})
    if not isinstance(labels, Mapping) or not all(isinstance(label, str) for label in labels.values()):
        raise DistillError(
            f"{where}: labels is {labels!r}; it must map rows to texts, e.g. {{kl_2col: KL with 2 columns}}."
        )
    nicer = {setting_text(row): label for row, label in labels.items()}  # 0.5: is no text in YAML
    best_of = _texts(section, "best_of", where)
    return CurveOptions(_number(section, "threshold", where), start, nicer, best_of)


def _number(spec: Mapping[str, Any], key: str, where: str) -> float | None:
    """A number; None where the key is missing."""
    value = spec.get(key)
    if key in spec and (
        not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value)
    ):
        raise DistillError(f"{where}: {key} is {value!r}; it must be a number.")
    return None if value is None else float(value)


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
