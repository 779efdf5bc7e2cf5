"""What we ask of Tune while it runs: tell the view."""

from typing import Any

from ray.tune import Callback
from ray.tune.experiment import Trial

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


def trial_title(trial: Trial, trials: Trials) -> str:
    """The experiment's name, and where it has more trials than one, what is this one's own."""
    if sum(_experiment(other) == _experiment(trial) for other in trials) == 1:
        return _experiment(trial)
    number, _, parameters = trial.experiment_tag.partition("_")
    return f"{_experiment(trial)} {parameters or f'#{number}'}"


def _experiment(trial: Trial) -> str:
    return str(trial.custom_trial_name).removesuffix(f"_{trial.trial_id}")
