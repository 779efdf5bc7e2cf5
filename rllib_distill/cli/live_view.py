"""Showing the progress of trials: a picture that stays in place on a terminal, else a line now and then."""

import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from rllib_distill.cli.stop_criteria import ENV_STEPS
from rllib_distill.cli.trial_progress import TrialProgress, clock

LINE_EVERY_S = 10.0
_MOST_TRIALS = 8  # more don't fit a screen


def make_console() -> Console:
    """For stdout; a pipe, which has no width, gets enough for the tables."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else 120)


class LiveView:
    """Shows trials from `with` to its end."""

    def __init__(self, console: Console):
        """Writes to `console`."""
        self._console = console
        self._live = Live(console=console, refresh_per_second=4) if console.is_terminal else None
        self._trials: dict[str, TrialProgress] = {}
        self._last_line: dict[str, float] = {}
        self._note = ""

    def __enter__(self) -> "LiveView":
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *_: Any) -> None:
        if self._live is not None:
            self._live.stop()

    def add(self, trial_id: str, trial: TrialProgress) -> None:
        """Shows a trial, in the place of what is done."""
        self._trials = {i: other for i, other in self._trials.items() if not other.result.get("done")}
        self._trials[trial_id] = trial
        self._draw()

    def update(self, trial_id: str, result: Mapping[str, Any]) -> None:
        """Shows a trial's new result."""
        trial = self._trials[trial_id]
        trial.update(result)
        self._draw()
        now = time.monotonic()
        due = now - self._last_line.get(trial_id, -LINE_EVERY_S) >= LINE_EVERY_S
        if self._live is None and (due or result.get("done")):
            self._last_line[trial_id] = now
            self._console.print(Text(line(trial)), soft_wrap=True)

    def remove(self, trial_id: str) -> None:
        """Takes a trial away, unless it is the last one."""
        if len(self._trials) > 1:
            self._trials.pop(trial_id, None)
            self._draw()

    def note(self, text: str) -> None:
        """Says something once."""
        if text == self._note:
            return
        self._note = text
        self._draw()
        if self._live is None:
            self._console.print(Text(text))

    def _draw(self) -> None:
        if self._live is not None:
            self._live.update(picture(list(self._trials.values()), self._note))


def line(trial: TrialProgress) -> str:
    """One trial in one line."""
    share = trial.share
    returns = ", ".join(f"{task} {value:.1f}" for task, value in trial.returns.items())
    parts = [
        f"{trial.name} {share:4.0%}" if share is not None else f"{trial.name} iteration {trial.iteration}",
        f"{trial.env_steps:,} env steps ({_per_second(trial)})",
        f"loss {_number(trial.loss)}",
        f"return: {returns}" if returns else "no episode has ended yet",
        _times(trial),
    ]
    return " | ".join(parts)


def picture(trials: Sequence[TrialProgress], note: str = "") -> Group:
    """All running trials, each with a bar, its numbers and its returns."""
    shown = [_block(trial) for trial in trials[:_MOST_TRIALS]]
    hidden = len(trials) - len(shown)
    rest = [Text(f"and {hidden} more trials", style="dim")] if hidden > 0 else []
    return Group(*shown, *rest, *([Text(note, style="yellow")] if note else []))


def _block(trial: TrialProgress) -> Padding:
    head = Table.grid(padding=(0, 2))
    bar: list[ProgressBar | Text] = []
    if trial.share is not None:
        bar = [ProgressBar(total=1.0, completed=trial.share, width=30), Text(f"{trial.share:.0%}")]
    head.add_row(Text(trial.name, style="bold"), *bar, Text(_times(trial), style="cyan"))
    numbers = Text()
    for value, unit in ((f"{trial.env_steps:,}", "env steps"), (_per_second(trial), "")):
        numbers.append(f"{value} ", style="bold").append(f"{unit}  ", style="dim")
    numbers.append("loss ", style="dim").append(_number(trial.loss), style="bold")
    return Padding(Group(head, numbers, _returns(trial)), (0, 0, 1, 0))


def _returns(trial: TrialProgress) -> Text:
    if not trial.returns:
        return Text("no episode has ended yet" if trial.result else "starting", style="dim")
    text = Text("return  ", style="dim")
    for task, value in trial.returns.items():
        text.append(f"{task} ", style="dim").append(f"{value:.1f}   ", style="bold green")
    return text


def _times(trial: TrialProgress) -> str:
    left = trial.seconds_left
    return f"{clock(trial.seconds)} so far" + (f", {clock(left)} left" if left is not None else "")


def _per_second(trial: TrialProgress) -> str:
    return f"{trial.rates.get(ENV_STEPS, 0.0):,.0f}/s"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"
