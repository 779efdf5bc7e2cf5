"""What we ask of Tune while it runs: tell the view, and stop gently at Ctrl-C."""

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ray.tune import Callback
from ray.tune.experiment import Trial
from ray.tune.result import SHOULD_CHECKPOINT

from rllib_distill.cli.live_view import LiveView
from rllib_distill.cli.trial_progress import TrialProgress


class ShowProgress(Callback):
    """Passes results on to a view."""

    def __init__(self, view: LiveView):
        """Shows them on `view`."""
        self._view = view
        self._trials: dict[str, TrialProgress] = {}

    @property
    def trials(self) -> list[TrialProgress]:
        """Those that run."""
        return list(self._trials.values())

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Shows a trial that starts."""
        tasks = trial.config.get("tasks")
        self._trials[trial.trial_id] = TrialProgress(
            trial_name(trial), trial.stopping_criterion, tuple(tasks) if isinstance(tasks, dict) else ()
        )
        self._view.note("", self.trials) if sys.stdout.isatty() else None

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        """Shows a result."""
        progress = self._trials[trial.trial_id]
        progress.update(result)
        self._view.update(progress, self.trials, last=bool(result.get("done")))

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Forgets a trial that is done, but for the last picture."""
        if len(self._trials) > 1:
            self._trials.pop(trial.trial_id, None)

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Forgets a trial that failed."""
        self._trials.pop(trial.trial_id, None)


class StopGently(Callback):
    """At Ctrl-C, lets every running trial save a checkpoint, then ends Tune so that the run can be resumed."""

    def __init__(self, view: LiveView):
        """Explains itself on `view`."""
        self._view = view
        self._unsaved: set[str] | None = None
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
        self._view.note("stopping: saving checkpoints (Ctrl-C again to stop at once)")

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        """Asks for a checkpoint."""
        if self.interrupted:
            result[SHOULD_CHECKPOINT] = True

    def on_checkpoint(self, iteration: int, trials: list[Trial], trial: Trial, checkpoint: Any, **info: Any) -> None:
        """Notes that a trial is safe."""
        if self._unsaved is not None:
            self._unsaved.discard(trial.trial_id)

    def on_step_end(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        """Ends the run when all are safe, through the signal that Tune listens to."""
        if not self.interrupted:
            return
        running = {trial.trial_id for trial in trials if trial.status == Trial.RUNNING}
        self._unsaved = running if self._unsaved is None else self._unsaved & running
        if not self._unsaved:
            signal.raise_signal(signal.SIGUSR1)


def trial_name(trial: Trial) -> str:
    """The experiment's name, with what a grid search or a sample changed."""
    experiment = trial.storage.experiment_dir_name if trial.storage else trial.trainable_name
    name = trial.custom_trial_name or experiment
    many = trial.experiment_tag not in ("", "0")
    return f"{name} {trial.experiment_tag}" if many else str(name)
