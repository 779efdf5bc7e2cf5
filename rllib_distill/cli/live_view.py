"""Showing the progress of trials: a picture that stays in place on a terminal, else a line now and then."""

import time
from collections.abc import Iterable, Sequence
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from rllib_distill.cli.trial_progress import TrialProgress, clock

LINE_EVERY_S = 10.0
_MOST_TRIALS = 8  # more don't fit a screen


class LiveView:
    """Shows progress from `with` to its end; `update` after every result."""

    def __init__(self, console: Console):
        """Writes to `console`."""
        self._console = console
        self._live: Live | None = None
        self._last_line: dict[str, float] = {}
        self._note = ""

    def __enter__(self) -> "LiveView":
        if self._console.is_terminal:
            self._live = Live(console=self._console, refresh_per_second=4, transient=False)
            self._live.start()
        return self

    def __exit__(self, *_: Any) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def say(self, text: str) -> None:
        """A line that stays, above the picture."""
        self._console.print(Text(text))

    def note(self, text: str, trials: Sequence[TrialProgress] = ()) -> None:
        """A line below the picture; without a terminal, a line."""
        self._note = text
        if self._live is None:
            self.say(text)
        else:
            self._draw(trials)

    def update(self, changed: TrialProgress, trials: Sequence[TrialProgress], *, last: bool = False) -> None:
        """Shows a new result.

        Args:
            changed: Whose result it is.
            trials: All that run.
            last: Whether it is the trial's last.
        """
        if self._live is not None:
            self._draw(trials)
            return
        now = time.monotonic()
        if last or now - self._last_line.get(changed.name, 0.0) >= LINE_EVERY_S:
            self._last_line[changed.name] = now
            self._console.print(Text(line(changed)), soft_wrap=True)

    def _draw(self, trials: Sequence[TrialProgress]) -> None:
        if self._live is not None:
            self._live.update(picture(trials, self._note))


def line(trial: TrialProgress) -> str:
    """One trial in one line."""
    done = f"{trial.share:4.0%}" if trial.share is not None else f"iteration {trial.result.get('training_iteration')}"
    returns = ", ".join(f"{task} {value:.1f}" for task, value in trial.returns.items())
    left = f", {clock(trial.seconds_left)} left" if trial.seconds_left is not None else ""
    parts = [
        f"{trial.name} {done}",
        f"{trial.env_steps:,} env steps ({_per_second(trial)})",
        f"loss {_number(trial.loss)}",
        f"return {returns}" if returns else "no episode yet",
        f"{clock(trial.seconds)}{left}",
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
    head.add_row(Text(trial.name, style="bold"), *_bar(trial), Text(_times(trial), style="cyan"))
    numbers = Text.assemble(
        (f"{trial.env_steps:,}", "bold"), (" env steps  ", "dim"),
        (_per_second(trial), "bold"), ("  loss ", "dim"), (_number(trial.loss), "bold"),
    )  # fmt: skip
    return Padding(Group(head, numbers, _returns(trial)), (0, 0, 1, 0))


def _bar(trial: TrialProgress) -> Iterable[Any]:
    if trial.share is None:
        return ()
    return (ProgressBar(total=1.0, completed=trial.share, width=30), Text(f"{trial.share:.0%}"))


def _times(trial: TrialProgress) -> str:
    left = trial.seconds_left
    return f"{clock(trial.seconds)} so far" + (f", {clock(left)} left" if left is not None else "")


def _returns(trial: TrialProgress) -> Any:
    if not trial.returns:
        return Text("no episode has ended yet" if trial.result else "starting", style="dim")
    text = Text("return  ", style="dim")
    for task, value in trial.returns.items():
        text.append(f"{task} ", style="dim").append(f"{value:.1f}", style="bold green").append("   ")
    return text


def _per_second(trial: TrialProgress) -> str:
    return f"{trial.rates.get('num_env_steps_sampled_lifetime', 0.0):,.0f}/s"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


