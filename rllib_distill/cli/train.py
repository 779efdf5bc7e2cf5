"""`rllib train`: checks the experiments, trains them in parallel with Tune, and reports their scores."""

import re
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune import Callback
from ray.tune.experiment import Experiment as TuneExperiment
from ray.tune.experiment import Trial
from ray.tune.registry import is_function_trainable, register_trainable
from ray.tune.schedulers import SCHEDULER_IMPORT, TrialScheduler, create_scheduler
from rich.console import Console
from typing_extensions import override

from rllib_distill.cli.evaluate import report_trial
from rllib_distill.cli.experiment import Experiment, TrainOptions, check_experiment
from rllib_distill.cli.progress import LiveView, ShowProgress, make_console, trial_title
from rllib_distill.cli.ray_session import (
    available_resources,
    check_writable,
    command_line,
    ray_session,
    short,
)
from rllib_distill.errors import DistillError, nearest
from rllib_distill.evaluation import ScoreBoard
from rllib_distill.evaluation.scores import summary_table
from rllib_distill.registry import register

_RESUME, _SKIP = tune.ResumeConfig.ResumeType.RESUME, tune.ResumeConfig.ResumeType.SKIP


def train_experiments(options: TrainOptions, specs: Mapping[str, Any]) -> int:
    """Checks and trains experiments, and reports their final scores.

    Args:
        options: The flags.
        specs: The specifications that `read_specs` returned for these flags.

    Returns:
        The exit code: 0 on success, 1 if a trial failed, 130 if interrupted.

    Raises:
        DistillError: The flags or the file are wrong; then nothing is started or written.
    """
    register()
    experiments = [Experiment.from_spec(name, spec) for name, spec in specs.items()]
    for experiment in experiments:
        check_experiment(experiment, available_resources(options.ray))
        if not experiment.stop:
            print(f"note: {experiment.name} has no `stop`: it runs until Ctrl-C", file=sys.stderr)
    run = TuneRun(experiments, _folder(options, experiments), options.scheduler, options.scheduler_config)
    if options.resume:
        run.check_resume()
    check_writable(run.folder, "--storage-path")
    with ray_session(options.ray, options.log_level):
        return _train_and_report(run, resume=options.resume)


def _folder(options: TrainOptions, experiments: Sequence[Experiment]) -> Path:
    """Returns the folder of results: Tune has one per run, so several experiments share their file's name."""
    name = options.file.stem if options.file and len(experiments) > 1 else experiments[0].name
    paths = sorted({str(experiment.storage_path) for experiment in experiments})
    if len(paths) > 1:
        raise DistillError(
            f"The experiments have different storage_path: {', '.join(paths)}; "
            "use the same, or train them one by one with -n NAME."
        )
    return Path(paths[0]) / name


def _train_and_report(run: "TuneRun", *, resume: bool) -> int:
    console = make_console()
    console.print(f"results go to {short(run.folder)}", soft_wrap=True)
    with LiveView(console) as view:
        trials, interrupted = run.execute(view, resume=resume)
    if interrupted:
        where = short(run.folder)
        console.print(f"Interrupted. Checkpoints are in {where}; the same command with --resume goes on.")
        return 130
    _report(run, trials, console)
    return 1 if any(trial.status == trial.ERROR for trial in trials) else 0


def _report(run: "TuneRun", trials: list[Trial], console: Console) -> None:
    boards: dict[str, ScoreBoard] = {}
    for trial in trials:
        title, report = trial_title(trial, trials), run.experiment_of(trial).report
        if trial.status == trial.ERROR:
            console.print(f"failed: {title}: {_why(trial)}", style="red", soft_wrap=True, markup=False)
        elif report is not None and trial.checkpoint is not None and "tasks" in trial.config:
            path = Path(trial.checkpoint.path)
            boards[title] = report_trial(console, title, path, report, command_line())
        else:
            console.print(f"{title}: {short(Path(trial.path))}", soft_wrap=True)
    students = {title: board for title, board in boards.items() if board.measure is not None}
    if len(students) > 1:
        console.print(summary_table(students))


def _why(trial: Trial) -> str:
    """Returns the last line of a trial's traceback that names an error, if possible a DistillError."""
    errors = re.findall(r"^(?:[\w.]+\.)?\w*(?:Error|Exception): .+$", trial.get_error() or "", re.MULTILINE)
    ours = [error for error in errors if "DistillError" in error]
    return f"{['its process died', *errors, *ours][-1]} (see {short(Path(trial.path) / 'error.txt')})"


class TuneRun:
    """A run of Tune with the trials of all experiments, in parallel as far as CPUs allow; it can be resumed.

    Attributes:
        experiments: The experiments.
        folder: The folder of their results.
    """

    def __init__(
        self,
        experiments: Sequence[Experiment],
        folder: Path,
        scheduler: str = "FIFO",
        scheduler_config: Mapping[str, Any] | None = None,
    ):
        """Prepares the run.

        Args:
            experiments: The experiments, which were checked.
            folder: The folder of their results.
            scheduler: Tune's name of a trial scheduler.
            scheduler_config: The scheduler's options.

        Raises:
            DistillError: The scheduler is unknown, or one of its options is wrong.
        """
        self.experiments = list(experiments)
        self.folder = folder
        self._scheduler = _make_scheduler(scheduler, dict(scheduler_config or {}))

    def check_resume(self) -> None:
        """Raises DistillError if the folder has no run to resume."""
        if not list(self.folder.glob("experiment_state-*.json")):
            raise DistillError(f"Nothing to resume in {self.folder}: leave out --resume to start.")

    def execute(self, view: LiveView, *, resume: bool) -> tuple[list[Trial], bool]:
        """Trains all experiments.

        Args:
            view: Shows the progress.
            resume: Whether to continue the newest run in the folder.

        Returns:
            The trials, and whether the user interrupted them.
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
        """Returns the experiment that a trial belongs to."""
        return next(e for e in self.experiments if trial.custom_trial_name == f"{e.name}_{trial.trial_id}")

    def _tune_experiment(self, experiment: Experiment) -> TuneExperiment:
        name, checkpoints = experiment.name, experiment.checkpoint_config.model_dump()
        if is_function_trainable(experiment.algorithm):
            checkpoints["checkpoint_at_end"] = False  # a function saves its checkpoints itself
        if ":" in experiment.run:
            register_trainable(experiment.run, experiment.algorithm)
        return TuneExperiment(
            self.folder.name,
            experiment.run,
            stop=experiment.stop,
            config=experiment.config,
            num_samples=experiment.num_samples,
            storage_path=str(self.folder.parent),
            checkpoint_config=tune.CheckpointConfig(**checkpoints),
            trial_name_creator=lambda trial: f"{name}_{trial.trial_id}",
            restore=str(experiment.restore) if experiment.restore else None,
            max_failures=experiment.max_failures,
        )


def _make_scheduler(name: str, options: dict[str, Any]) -> TrialScheduler:
    if name.lower() not in SCHEDULER_IMPORT:
        raise DistillError(f"Unknown --scheduler {name!r}. {nearest(name.lower(), SCHEDULER_IMPORT)}")
    try:
        return create_scheduler(name, **options)
    except (TypeError, ValueError) as error:
        raise DistillError(f"--scheduler-config {options!r} does not fit {name}: {error}") from None


class StopGently(Callback):
    """Ends Tune after Ctrl-C as soon as all running trials are saved, so that no iteration is lost.

    After Ctrl-C, every trial finishes its iteration, saves a checkpoint and pauses (see `PausingScheduler`).

    Attributes:
        interrupted: Whether the user pressed Ctrl-C.
    """

    def __init__(self, view: LiveView):
        """Takes the view that shows a note after Ctrl-C."""
        self._view = view
        self._ran: set[str] | None = None  # ids of the trials that ran at Ctrl-C and are not saved yet
        self.interrupted = False

    @contextmanager
    def catching(self) -> Iterator[None]:
        """Catches the first Ctrl-C; a second one interrupts the program at once."""
        before = signal.signal(signal.SIGINT, self._on_signal)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)

    def _on_signal(self, *_: Any) -> None:
        self.interrupted = True
        signal.signal(signal.SIGINT, signal.default_int_handler)

    @override
    def on_step_end(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        if not self.interrupted:
            return
        self._view.note("stopping: saving checkpoints (Ctrl-C again to stop at once)")
        # When trials pause, Tune starts waiting ones, whatever the scheduler says. These are not waited for:
        # they have no result yet that could be lost.
        running = {trial.trial_id for trial in trials if trial.status == Trial.RUNNING or trial.is_saving}
        self._ran = running if self._ran is None else self._ran & running
        if not self._ran:
            signal.raise_signal(signal.SIGUSR1)  # Tune ends at this signal


class PausingScheduler(TrialScheduler):
    """Wraps a scheduler; after Ctrl-C it starts no trials and pauses each at its next result.

    A trial that pauses saves a checkpoint and does not train while others still save theirs. So a resumed
    trial continues exactly after its last result.
    """

    def __init__(self, scheduler: TrialScheduler, stop: StopGently):
        """Wraps `scheduler`, which decides until `stop` is interrupted."""
        super().__init__()
        self._scheduler, self._stop = scheduler, stop

    @override
    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        decision = str(self._scheduler.on_trial_result(tune_controller, trial, result))
        return self.PAUSE if self._stop.interrupted and decision == self.CONTINUE else decision

    @override
    def choose_trial_to_run(self, tune_controller: Any) -> Trial | None:
        return None if self._stop.interrupted else self._scheduler.choose_trial_to_run(tune_controller)

    # Everything else is passed on to the wrapped scheduler.

    @property
    @override
    def metric(self) -> Any:
        return self._scheduler.metric

    @property
    @override
    def supports_buffered_results(self) -> bool:
        return bool(self._scheduler.supports_buffered_results)

    @override
    def set_search_properties(self, metric: str | None, mode: str | None, **spec: Any) -> bool:
        return bool(self._scheduler.set_search_properties(metric, mode, **spec))

    @override
    def on_trial_add(self, tune_controller: Any, trial: Trial) -> None:
        self._scheduler.on_trial_add(tune_controller, trial)

    @override
    def on_trial_error(self, tune_controller: Any, trial: Trial) -> None:
        self._scheduler.on_trial_error(tune_controller, trial)

    @override
    def on_trial_complete(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> None:
        self._scheduler.on_trial_complete(tune_controller, trial, result)

    @override
    def on_trial_remove(self, tune_controller: Any, trial: Trial) -> None:
        self._scheduler.on_trial_remove(tune_controller, trial)

    @override
    def debug_string(self) -> str:
        return str(self._scheduler.debug_string())

    @override
    def save(self, checkpoint_path: str) -> None:
        self._scheduler.save(checkpoint_path)

    @override
    def restore(self, checkpoint_path: str) -> None:
        self._scheduler.restore(checkpoint_path)
