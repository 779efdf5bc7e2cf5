"""The progress of trials: a live display on a terminal, or elsewhere a line per trial every 10 seconds."""

import math
import sys
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ray.tune import Callback
from ray.tune.experiment import Trial
from ray.tune.utils import flatten_dict
from rich.console import Console, Group
from rich.live import Live
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text
from typing_extensions import override

from rllib_distill.core.schedules import ENV_STEPS, ITERATIONS, SECONDS, is_counter, share_done

_LINE_EVERY_S = 10.0
_MOST_TRIALS = 8  # more do not fit on a screen
_WINDOW_S = 15.0  # over which rates are measured


@dataclass
class TrialProgress:
    """The last result of a trial, and how fast the trial progresses.

    Attributes:
        name: The trial's title.
        stop: Its stop criteria: flat result key -> value at which it stops.
        tasks: The names of its tasks; empty if the algorithm has none.
        result: Its last result; empty before the first one.
    """

    name: str
    stop: Mapping[str, float]
    tasks: tuple[str, ...]
    result: Mapping[str, Any] = field(default_factory=dict)
    _counts: dict[str, float] = field(default_factory=dict)
    _recent: deque[tuple[float, dict[str, float]]] = field(default_factory=deque)

    def update(self, result: Mapping[str, Any]) -> None:
        """Adds a new result."""
        self.result = result
        now = time.monotonic()
        self._counts = counts_of(self.stop, result, self._counts)
        self._recent.append((now, self._counts))
        while len(self._recent) > 2 and now - self._recent[0][0] > _WINDOW_S:
            self._recent.popleft()

    @property
    def env_steps(self) -> int:
        """The number of env steps so far, of all tasks together."""
        return int(self.result.get(ENV_STEPS) or 0)

    @property
    def iteration(self) -> int:
        """The number of the last training iteration."""
        return int(self.result.get(ITERATIONS) or 0)

    @property
    def seconds(self) -> float:
        """The training time in seconds, including the time before a trial was resumed."""
        return float(self.result.get(SECONDS) or 0)

    @property
    def rates(self) -> dict[str, float]:
        """The growth of each counter per second, over about the last 15 seconds."""
        if not self._recent:
            return {}
        if len(self._recent) == 1:
            return {key: value / max(self.seconds, 1e-9) for key, value in self._recent[0][1].items()}
        (start, first), (end, last) = self._recent[0], self._recent[-1]
        return {key: (last[key] - first[key]) / max(end - start, 1e-9) for key in last}

    @property
    def share(self) -> float | None:
        """The share of the trial that is done, from 0 to 1; None if no stop criterion is a counter."""
        return share_done(self.stop, lambda key: self._counts.get(key, 0.0))

    @property
    def seconds_left(self) -> float | None:
        """The estimated seconds until the first stop criterion is met; None if there is no estimate."""
        rates = self.rates
        times = [
            max(0.0, end - self._counts[key]) / rates[key] for key, end in self.stop.items() if rates.get(key)
        ]
        return min(times) if times else None

    @property
    def loss(self) -> float | None:
        """The mean of the modules' total losses; None before the first update."""
        losses = [
            float(values["total_loss"])
            for values in self.result.get("learners", {}).values()
            if isinstance(values, Mapping) and "total_loss" in values
        ]
        return sum(losses) / len(losses) if losses else None

    @property
    def returns(self) -> dict[str, float]:
        """The latest mean return of each task, or of all episodes, as `mean`, if there are no tasks."""
        runners = self.result.get("env_runners", {})
        per_task = runners.get("agent_episode_returns_mean", {})
        returns = {task: float(per_task[task]) for task in self.tasks if task in per_task}
        if not self.tasks and "episode_return_mean" in runners:
            returns["mean"] = float(runners["episode_return_mean"])
        return {task: value for task, value in returns.items() if not math.isnan(value)}


def counts_of(
    stop: Mapping[str, float], result: Mapping[str, Any], before: Mapping[str, float]
) -> dict[str, float]:
    """Returns the counters' values: env steps, seconds, iterations, and counters among the stop criteria.

    Args:
        stop: Flat stop criteria.
        result: The last result; it has NaN for a counter that did not change in the iteration.
        before: The counters' previous values; a missing one was 0.
    """
    flat = flatten_dict(dict(result))
    keys = dict.fromkeys([ENV_STEPS, SECONDS, ITERATIONS, *filter(is_counter, stop)])
    counts = {key: float(flat.get(key) or 0) for key in keys}
    return {key: before.get(key, 0.0) if math.isnan(count) else count for key, count in counts.items()}


def make_console() -> Console:
    """Makes a console on stdout; where this is not a terminal, lines have 120 columns, enough for tables."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else 120)


class LiveView:
    """A context manager that shows the progress of trials."""

    def __init__(self, console: Console):
        """Prepares the display on a console."""
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
        """Shows a new trial and removes those that are done."""
        self._trials = {i: other for i, other in self._trials.items() if not other.result.get("done")}
        self._trials[trial_id] = trial
        self._draw()

    def update(self, trial_id: str, result: Mapping[str, Any]) -> None:
        """Shows a trial's new result."""
        trial = self._trials[trial_id]
        trial.update(result)
        self._draw()
        now = time.monotonic()
        due = now - self._last_line.get(trial_id, -_LINE_EVERY_S) >= _LINE_EVERY_S
        if self._live is None and (due or result.get("done")):
            self._last_line[trial_id] = now
            self._console.print(Text(line(trial)), soft_wrap=True)

    def remove(self, trial_id: str) -> None:
        """Removes a trial, unless it is the only one."""
        if len(self._trials) > 1:
            self._trials.pop(trial_id, None)
            self._draw()

    def note(self, text: str) -> None:
        """Shows a message below the trials; the same message again changes nothing."""
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
    """Describes one trial in one line."""
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
    """Draws the running trials (at most 8), each with a progress bar, its counters and its returns."""
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


def clock(seconds: float | None) -> str:
    """Writes a time in seconds as `1:02:03` or `2:03`."""
    if seconds is None:
        return "?"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


class ShowProgress(Callback):
    """A callback that shows the results of Tune's trials in a view."""

    def __init__(self, view: LiveView):
        """Takes the view."""
        self._view = view

    @override
    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        tasks = trial.config.get("tasks")
        names = tuple(tasks) if isinstance(tasks, dict) else ()
        progress = TrialProgress(trial_title(trial, trials), trial.stopping_criterion, names)
        self._view.add(trial.trial_id, progress)

    @override
    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        self._view.update(trial.trial_id, result)

    @override
    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        self._view.remove(trial.trial_id)

    @override
    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        self._view.remove(trial.trial_id)


def trial_title(trial: Trial, trials: list[Trial]) -> str:
    """Returns the experiment's name and, if it has several trials, the parameters or number of this one."""
    if sum(_experiment(other) == _experiment(trial) for other in trials) == 1:
        return _experiment(trial)
    number, _, parameters = trial.experiment_tag.partition("_")
    return f"{_experiment(trial)} {parameters or f'#{number}'}"


def _experiment(trial: Trial) -> str:
    return str(trial.custom_trial_name).removesuffix(f"_{trial.trial_id}")
