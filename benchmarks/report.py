"""The result: a table for people, JSON for programs."""

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

PACKAGES = ("rllib-distill", "ray", "torch", "numpy", "gymnasium", "minatar", "stable-baselines3")


@dataclass(frozen=True)
class Figure:
    """One row: ours beside another's.

    Attributes:
        what: With its unit.
        ours: Median.
        other: Median.
        ratio: Median of the ratios of neighbouring measurements; for memory, of the peaks.
        ratios: The single ones, in order.
        at_least: The target, or None.
    """

    what: str
    ours: float
    other: float
    ratio: float
    ratios: tuple[float, ...]
    at_least: float | None

    @classmethod
    def of_rates(
        cls, what: str, ours: Sequence[float], other: Sequence[float], at_least: float | None
    ) -> "Figure":
        """From rates that were measured in turns."""
        ratios = tuple(a / b for a, b in zip(ours, other, strict=True))
        return cls(what, median(ours), median(other), median(ratios), ratios, at_least)

    @classmethod
    def of_peaks(cls, what: str, ours: float, other: float) -> "Figure":
        """From peak memory, which has no target."""
        return cls(what, ours, other, ours / other, (), None)

    @property
    def ok(self) -> bool | None:
        """Whether the target is reached; None without one."""
        return None if self.at_least is None else self.ratio >= self.at_least


def print_table(figures: Sequence[Figure], caption: str) -> None:
    """Prints one row per figure."""
    table = Table(title="Throughput, side by side", caption=caption, caption_justify="left")
    table.add_column("what")
    for name in ("ours", "other", "ratio", "at least"):
        table.add_column(name, justify="right")
    table.add_column("ok")
    for figure in figures:
        least = "" if figure.at_least is None else f"{figure.at_least:.2f}"
        ok = {None: "", True: "[green]yes[/]", False: "[red]no[/]"}[figure.ok]
        table.add_row(
            figure.what, f"{figure.ours:,.0f}", f"{figure.other:,.0f}", f"{figure.ratio:.2f}", least, ok
        )
    Console().print(table)


def write_json(path: Path, figures: Sequence[Figure], settings: dict[str, Any]) -> None:
    """Writes the figures with the machine and the versions they are of."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": {
            "processor": _processor(),
            "cores": os.cpu_count(),
            "cores_used": len(os.sched_getaffinity(0)),
            "system": platform.platform(),
            "python": platform.python_version(),
        },
        "versions": {package: version(package) for package in PACKAGES},
        "settings": settings,
        "figures": [{**asdict(figure), "ok": figure.ok} for figure in figures],
    }
    path.write_text(json.dumps(content, indent=2) + "\n")


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()
