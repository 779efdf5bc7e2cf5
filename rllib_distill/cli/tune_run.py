"""One run of Tune over checked experiments, and what is said and done after it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from rllib_distill.cli.experiment import Experiment
from rllib_distill.cli.live_view import LiveView
from rllib_distill.errors import DistillError


class TuneRun:
    """All experiments side by side, as far as there are CPUs; they share one folder and can be resumed."""

    def __init__(
        self, experiments: Sequence[Experiment], folder: Path, scheduler: str, scheduler_config: Mapping[str, Any]
    ):
        """Prepares a run.

        Args:
            experiments: Checked.
            folder: For results.
            scheduler: Tune's name for it.
            scheduler_config: Its options.
        """
        self.experiments = list(experiments)
        self.folder = folder
        self._scheduler_name = scheduler
        self._scheduler_config = dict(scheduler_config)

    def check(self, *, resume: bool) -> None:
        """Raises DistillError if the scheduler is unknown or there is nothing to resume."""
        self._scheduler()
        if resume and not list(self.folder.glob("experiment_state-*.json")):
            raise DistillError(f"Nothing to resume in {self.folder}: leave out --resume to start.")

    def execute(self, *, resume: bool) -> int:
        """Trains, then plays the final scores.

        Args:
            resume: Whether to go on with the newest run in the folder.

        Returns:
            The exit code: 0 done, 1 a trial failed, 130 interrupted.
        """
        from ray import tune
        from ray.tune.experiment import Trial

        from rllib_distill.cli.tune_callbacks import ShowProgress, StopGently

        console = Console(highlight=False)
        with LiveView(console) as view:
            show, stop = ShowProgress(view), StopGently(view)
            view.say(f"results: {_short(self.folder)}")
            with stop.catching():
                analysis = tune.run(
                    [self._tune_experiment(experiment) for experiment in self.experiments],
                    callbacks=[show, stop],
                    scheduler=self._scheduler(),
                    resume_config=_resume_config() if resume else None,
                    verbose=0,
                    raise_on_failed_trial=False,
                )
        trials = analysis.trials
        if stop.interrupted:
            console.print(f"\ninterrupted; checkpoints are in {_short(self.folder)}. "
                          "Go on with the same command and --resume.")  # fmt: skip
            return 130
        failed = [trial for trial in trials if trial.status == Trial.ERROR]
        for trial in failed:
            console.print(f"[red]failed[/red]: {trial} {_why(trial)}", soft_wrap=True)
        self._report([trial for trial in trials if trial not in failed], console)
        return 1 if failed else 0

    def _report(self, trials: Sequence[Any], console: Console) -> None:
        for trial in trials:
            console.print(f"checkpoint: {_short(Path(trial.checkpoint.path)) if trial.checkpoint else 'none'}")

    def _tune_experiment(self, experiment: Experiment) -> Any:
        from ray import tune
        from ray.tune.experiment import Experiment as TuneExperiment

        return TuneExperiment(
            self.folder.name,
            experiment.run,
            stop=experiment.stop,
            config=experiment.config,
            num_samples=experiment.num_samples,
            storage_path=str(self.folder.parent),
            checkpoint_config=tune.CheckpointConfig(**experiment.checkpoint_config),
            trial_name_creator=_namer(experiment.name),
            restore=str(experiment.restore) if experiment.restore else None,
            max_failures=experiment.max_failures,
        )

    def _scheduler(self) -> Any:
        from ray.tune.schedulers import SCHEDULER_IMPORT, create_scheduler

        name = self._scheduler_name.lower()
        if name not in SCHEDULER_IMPORT:
            from rllib_distill.errors import nearest

            raise DistillError(f"Unknown --scheduler {self._scheduler_name!r}. {nearest(name, SCHEDULER_IMPORT)}")
        return create_scheduler(name, **self._scheduler_config)


def _namer(name: str) -> Any:
    return lambda trial: f"{name}_{trial.trial_id}"


def _resume_config() -> Any:
    from ray.tune import ResumeConfig

    again = ResumeConfig.ResumeType.RESUME
    return ResumeConfig(unfinished=again, errored=again, finished=ResumeConfig.ResumeType.SKIP)


def _why(trial: Any) -> str:
    error = trial.pickled_error_file and trial.get_pickled_error()
    return f"({' '.join(str(error).split())[-300:]})" if error else f"see {trial.error_file}"


def _short(path: Path) -> str:
    """Relative to the user's folder where it is inside."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
