"""One run of Tune over checked experiments."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune.experiment import Experiment as TuneExperiment
from ray.tune.experiment import Trial
from ray.tune.schedulers import SCHEDULER_IMPORT, create_scheduler

from rllib_distill.cli.experiment import Experiment
from rllib_distill.cli.live_view import LiveView
from rllib_distill.cli.show_progress import ShowProgress
from rllib_distill.cli.stop_gently import PausingScheduler, StopGently
from rllib_distill.errors import DistillError, nearest

_RESUME, _SKIP = tune.ResumeConfig.ResumeType.RESUME, tune.ResumeConfig.ResumeType.SKIP


class TuneRun:
    """All experiments side by side, as far as there are CPUs; they share one folder and can be resumed.

    Attributes:
        experiments: To run.
        folder: Of the results.
    """

    def __init__(
        self,
        experiments: Sequence[Experiment],
        folder: Path,
        scheduler: str = "FIFO",
        scheduler_config: Mapping[str, Any] | None = None,
    ):
        """Prepares a run.

        Args:
            experiments: Checked.
            folder: For results.
            scheduler: Tune's name of it.
            scheduler_config: Its options.

        Raises:
            DistillError: The scheduler is unknown, or an option of it wrong.
        """
        self.experiments = list(experiments)
        self.folder = folder
        self._scheduler = _make_scheduler(scheduler, dict(scheduler_config or {}))

    def check_resume(self) -> None:
        """Raises DistillError if there is nothing to resume."""
        if not list(self.folder.glob("experiment_state-*.json")):
            raise DistillError(f"Nothing to resume in {self.folder}: leave out --resume to start.")

    def execute(self, view: LiveView, *, resume: bool) -> tuple[list[Trial], bool]:
        """Trains.

        Args:
            view: Shows progress.
            resume: Whether to go on with the newest run in the folder.

        Returns:
            The trials, and whether they were interrupted.
        """
        stop = StopGently(view)
        with stop.catching():
            analysis = tune.run(
                [self._tune_experiment(experiment) for experiment in self.experiments],
                callbacks=[ShowProgress(view), stop],
                scheduler=PausingScheduler(self._scheduler, stop),
                resume_config=tune.ResumeConfig(_SKIP, _RESUME, _RESUME) if resume else None,
                verbose=0,
                raise_on_failed_trial=False,
            )
        return analysis.trials, stop.interrupted

    def experiment_of(self, trial: Trial) -> Experiment:
        """The experiment that a trial belongs to."""
        return next(e for e in self.experiments if trial.custom_trial_name == f"{e.name}_{trial.trial_id}")

    def _tune_experiment(self, experiment: Experiment) -> TuneExperiment:
        name = experiment.name
        return TuneExperiment(
            self.folder.name,
            experiment.run,
            stop=experiment.stop,
            config=experiment.config,
            num_samples=experiment.num_samples,
            storage_path=str(self.folder.parent),
            checkpoint_config=tune.CheckpointConfig(**experiment.checkpoint_config),
            trial_name_creator=lambda trial: f"{name}_{trial.trial_id}",
            restore=str(experiment.restore) if experiment.restore else None,
            max_failures=experiment.max_failures,
        )


def _make_scheduler(name: str, options: dict[str, Any]) -> Any:
    if name.lower() not in SCHEDULER_IMPORT:
        raise DistillError(f"Unknown --scheduler {name!r}. {nearest(name.lower(), SCHEDULER_IMPORT)}")
    try:
        return create_scheduler(name, **options)
    except (TypeError, ValueError) as error:
        raise DistillError(f"--scheduler-config {options!r} does not fit {name}: {error}") from None
