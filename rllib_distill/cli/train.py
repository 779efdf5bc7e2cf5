"""`rllib train`: checks everything, runs the experiments with Tune, plays the final scores."""

import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rllib_distill.cli.ray_session import command_line, quiet_ray, ray_session, short
from rllib_distill.errors import DistillError, nearest


@dataclass(frozen=True)
class TrainOptions:
    """The flags of `rllib train`; None where one was not given."""

    file: Path | None
    experiment_name: str | None
    run: str | None
    env: str | None
    config: Mapping[str, Any] | None
    stop: Mapping[str, Any] | None
    num_samples: int | None
    scheduler: str
    scheduler_config: Mapping[str, Any]
    storage_path: str | None
    checkpoint_config: Mapping[str, Any]
    restore: str | None
    resume: bool
    ray: Mapping[str, Any]
    log_level: str


def train_experiments(options: TrainOptions) -> int:
    """Runs what the flags and the file say.

    Args:
        options: The flags.

    Returns:
        The exit code: 0 done, 1 a trial failed, 130 interrupted.

    Raises:
        DistillError: A mistake in the flags or the file; nothing was started or written.
    """
    quiet_ray(options.log_level)
    specs = _specs(options)
    from rllib_distill.cli.check import available_resources, check_experiment, check_writable
    from rllib_distill.cli.experiment import Experiment
    from rllib_distill.cli.tune_run import TuneRun
    from rllib_distill.registry import register

    quiet_ray(options.log_level)  # importing Ray sets its log levels anew
    register()
    experiments = [Experiment.from_spec(name, spec) for name, spec in specs.items()]
    for experiment in experiments:
        check_experiment(experiment, available_resources(options.ray))
        if not experiment.stop:
            print(f"note: {experiment.name} has no `stop`: it runs until Ctrl-C", file=sys.stderr)
    run = TuneRun(experiments, _folder(options, experiments), options.scheduler, options.scheduler_config)
    if options.resume:
        run.check_resume()
    check_writable(run.folder)
    with ray_session(options.ray, options.log_level):
        return _train_and_report(run, resume=options.resume)


def _train_and_report(run: Any, *, resume: bool) -> int:
    from rllib_distill.cli.live_view import LiveView, make_console

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


def _report(run: Any, trials: list[Any], console: Any) -> None:
    from rllib_distill.cli.reporting import report_trial
    from rllib_distill.cli.show_progress import trial_title
    from rllib_distill.evaluation.scores import summary_table

    boards: dict[str, Any] = {}
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


def _why(trial: Any) -> str:
    """The line of a traceback that says what happened: ours if there is one, else the last."""
    errors = re.findall(r"^(?:[\w.]+\.)?\w*(?:Error|Exception): .+$", trial.get_error() or "", re.MULTILINE)
    ours = [error for error in errors if "DistillError" in error]
    return f"{['its process died', *errors, *ours][-1]} (see {short(Path(trial.path) / 'error.txt')})"


def _specs(options: TrainOptions) -> dict[str, Any]:
    """Experiment name -> specification: the file's, changed by flags, or one made of flags."""
    if options.file is not None:
        specs = _from_file(options, options.file)
    elif options.run is None:
        raise DistillError("Nothing to train: give `file EXPERIMENTS.yaml`, or --run NAME and --config JSON.")
    else:
        env = {"env": options.env} if options.env else {}
        specs = {options.experiment_name or "default": {"run": options.run, **env}}
    return {name: changed(spec, options) for name, spec in specs.items()}


def _from_file(options: TrainOptions, file: Path) -> dict[str, Any]:
    from rllib_distill.cli.experiment_file import read_experiment_file

    for flag, value in (("--run", options.run), ("--env", options.env)):
        if value is not None:
            raise DistillError(f"{flag} {value} does not go with a file, which says that: leave it out.")
    specs, name = read_experiment_file(file), options.experiment_name
    if name is None:
        return specs
    if name not in specs:
        raise DistillError(f"{file} has no experiment {name!r}. {nearest(name, map(str, specs))}")
    return {name: specs[name]}


def changed(spec: Any, options: TrainOptions) -> Any:
    """An experiment's specification with what the flags change."""
    if not isinstance(spec, Mapping):
        return spec  # refused later, with the experiment's name
    flags = {
        "stop": options.stop,
        "num_samples": options.num_samples,
        "storage_path": options.storage_path,
        "restore": options.restore,
    }
    result = {**spec, **_given(flags)}
    for key, changes in (("config", options.config or {}), ("checkpoint_config", options.checkpoint_config)):
        if _given(changes) and isinstance(spec.get(key) or {}, Mapping):
            result[key] = {**(spec.get(key) or {}), **_given(changes)}
    report = spec.get("report")
    flags_that_matter = (options.config, options.stop, options.restore, options.scheduler.upper() != "FIFO")
    if any(flags_that_matter) and isinstance(report, Mapping):  # it is another run than was recorded
        result["report"] = {key: value for key, value in report.items() if key != "expected"}
    return result


def _given(flags: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in flags.items() if value is not None}


def _folder(options: TrainOptions, experiments: Sequence[Any]) -> Path:
    """Tune keeps its state in one folder per run: several experiments share one with their file's name."""
    name = options.file.stem if options.file and len(experiments) > 1 else experiments[0].name
    paths = sorted({str(experiment.storage_path) for experiment in experiments})
    if len(paths) > 1:
        raise DistillError(
            f"The experiments have different storage_path: {', '.join(paths)}; "
            "use the same, or train them one by one with -n NAME."
        )
    return Path(paths[0]) / str(name)
