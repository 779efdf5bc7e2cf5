"""What we ask of Tune while it runs: tell the view, and stop gently at Ctrl-C."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ray.tune import Callback
from ray.tune.experiment import Trial
from ray.tune.result import SHOULD_CHECKPOINT

from rllib_distill.cli.live_view import LiveView
from rllib_distill.cli.trial_progress import TrialProgress

Trials = list[Trial]


class ShowProgress(Callback):
    """Passes results on to a view."""

    def __init__(self, view: LiveView):
        """Shows them on `view`."""
        self._view = view

    def on_trial_start(self, iteration: int, trials: Trials, trial: Trial, **info: Any) -> None:
        """Shows a trial that starts."""
        tasks = trial.config.get("tasks")
        names = tuple(tasks) if isinstance(tasks, dict) else ()
        self._view.add(
            trial.trial_id, TrialProgress(trial_title(trial, trials), trial.stopping_criterion, names)
        )

    def on_trial_result(
        self, iteration: int, trials: Trials, trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        """Shows a result."""
        self._view.update(trial.trial_id, result)

    def on_trial_complete(self, iteration: int, trials: Trials, trial: Trial, **info: Any) -> None:
        """Takes away a trial that is done."""
        self._view.remove(trial.trial_id)

    def on_trial_error(self, iteration: int, trials: Trials, trial: Trial, **info: Any) -> None:
        """Takes away a trial that failed."""
        self._view.remove(trial.trial_id)


class StopGently(Callback):
    """At Ctrl-C, lets every running trial save a checkpoint, then ends Tune so that it can be resumed.

    Attributes:
        interrupted: Whether there was a Ctrl-C.
    """

    def __init__(self, view: LiveView):
        """Explains itself on `view`."""
        self._view = view
        self._saved: set[str] = set()
        self.interrupted = False

    @contextmanager
    def catching(self) -> Iterator[None]:
        """Catches the first Ctrl-C; the second acts as ever."""
        before = signal.signal(signal.SIGINT, self._on_signal)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)

    def _on_signal(self, *_: Any) -> None:
        self.interrupted = True
        signal.signal(signal.SIGINT, signal.default_int_handler)

    def on_trial_result(
        self, iteration: int, trials: Trials, trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        """Asks for a checkpoint."""
        if self.interrupted:
            result[SHOULD_CHECKPOINT] = True

    def on_checkpoint(
        self, iteration: int, trials: Trials, trial: Trial, checkpoint: Any, **info: Any
    ) -> None:
        """Notes that a trial is safe."""
        if self.interrupted:
            self._saved.add(trial.trial_id)

    def on_step_end(self, iteration: int, trials: Trials, **info: Any) -> None:
        """Ends the run when all are safe, through the signal that Tune listens to."""
        if not self.interrupted:
            return
        self._view.note("stopping: saving checkpoints (Ctrl-C again to stop at once)")
        running = {trial.trial_id for trial in trials if trial.status == Trial.RUNNING}
        if running <= self._saved:
            signal.raise_signal(signal.SIGUSR1)


def trial_title(trial: Trial, trials: Trials) -> str:
    """The experiment's name, and where it has more trials than one, what is this one's own."""
    if sum(_experiment(other) == _experiment(trial) for other in trials) == 1:
        return _experiment(trial)
    number, _, parameters = trial.experiment_tag.partition("_")
    return f"{_experiment(trial)} {parameters or f'#{number}'}"


def _experiment(trial: Trial) -> str:
    return str(trial.custom_trial_name).removesuffix(f"_{trial.trial_id}")
