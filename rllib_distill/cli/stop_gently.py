"""Ctrl-C while Tune runs: every trial saves a checkpoint after its iteration and waits; then Tune ends."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ray.tune import Callback
from ray.tune.experiment import Trial
from ray.tune.schedulers import TrialScheduler

from rllib_distill.cli.live_view import LiveView


class StopGently(Callback):
    """Ends Tune when all trials that ran are safe, so that it can be resumed and nothing is done twice.

    Attributes:
        interrupted: Whether there was a Ctrl-C.
    """

    def __init__(self, view: LiveView):
        """Explains itself on `view`."""
        self._view = view
        self._ran: set[str] | None = None  # ids of the trials that ran at the Ctrl-C
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

    def on_step_end(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        """Ends the run when all are safe, through the signal that Tune listens to.

        Tune starts trials that wait as soon as others leave room, whatever a scheduler says: these have no
        result yet, so nothing is lost with them.
        """
        if not self.interrupted:
            return
        self._view.note("stopping: saving checkpoints (Ctrl-C again to stop at once)")
        running = {trial.trial_id for trial in trials if trial.status == Trial.RUNNING or trial.is_saving}
        self._ran = running if self._ran is None else self._ran & running
        if not self._ran:
            signal.raise_signal(signal.SIGUSR1)


class PausingScheduler(TrialScheduler):
    """Another scheduler until Ctrl-C; then it chooses no trial any more, and each pauses at its next result.

    To pause is to save a checkpoint first, and not to train on while others still save: what is resumed goes
    on exactly where its results end.
    """

    def __init__(self, scheduler: TrialScheduler, stop: StopGently):
        """Wraps `scheduler`, whose word counts while `stop` was not interrupted."""
        super().__init__()
        self._scheduler, self._stop = scheduler, stop

    @property
    def metric(self) -> Any:
        """The wrapped scheduler's, as everything below."""
        return self._scheduler.metric

    @property
    def supports_buffered_results(self) -> bool:
        """See Tune."""
        return bool(self._scheduler.supports_buffered_results)

    def set_search_properties(self, metric: str | None, mode: str | None, **spec: Any) -> bool:
        """See Tune."""
        return bool(self._scheduler.set_search_properties(metric, mode, **spec))

    def on_trial_add(self, tune_controller: Any, trial: Trial) -> None:
        """See Tune."""
        self._scheduler.on_trial_add(tune_controller, trial)

    def on_trial_error(self, tune_controller: Any, trial: Trial) -> None:
        """See Tune."""
        self._scheduler.on_trial_error(tune_controller, trial)

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        """See Tune; a trial that was to go on pauses after Ctrl-C."""
        decision = str(self._scheduler.on_trial_result(tune_controller, trial, result))
        return self.PAUSE if self._stop.interrupted and decision == self.CONTINUE else decision

    def on_trial_complete(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> None:
        """See Tune."""
        self._scheduler.on_trial_complete(tune_controller, trial, result)

    def on_trial_remove(self, tune_controller: Any, trial: Trial) -> None:
        """See Tune."""
        self._scheduler.on_trial_remove(tune_controller, trial)

    def choose_trial_to_run(self, tune_controller: Any) -> Trial | None:
        """See Tune; nobody after Ctrl-C."""
        return None if self._stop.interrupted else self._scheduler.choose_trial_to_run(tune_controller)

    def debug_string(self) -> str:
        """See Tune."""
        return str(self._scheduler.debug_string())

    def save(self, checkpoint_path: str) -> None:
        """See Tune."""
        self._scheduler.save(checkpoint_path)

    def restore(self, checkpoint_path: str) -> None:
        """See Tune."""
        self._scheduler.restore(checkpoint_path)
