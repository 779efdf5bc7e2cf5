"""`rllib train`: checks everything, runs the experiments with Tune, plays the final scores."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rllib_distill.cli.ray_session import quiet_ray, ray_session
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
    from rllib_distill.cli.check import available_cpus, check_experiment, check_writable
    from rllib_distill.cli.experiment import Experiment
    from rllib_distill.cli.tune_run import TuneRun
    from rllib_distill.registry import register

    register()
    experiments = [Experiment.from_spec(name, spec) for name, spec in specs.items()]
    for experiment in experiments:
        check_experiment(experiment, available_cpus(options.ray))
    run = TuneRun(experiments, _folder(options, experiments), options.scheduler, options.scheduler_config)
    run.check(resume=options.resume)
    check_writable(run.folder)
    with ray_session(options.ray, options.log_level):
        return run.execute(resume=options.resume)


def _specs(options: TrainOptions) -> dict[str, Any]:
    """Experiment name -> specification: the file's, changed by flags, or one made of flags."""
    if options.file is None:
        if options.run is None:
            raise DistillError("Nothing to train: give `file EXPERIMENTS.yaml`, or --run NAME and --config JSON.")
        env = {"env": options.env} if options.env else {}
        specs: dict[str, Any] = {options.experiment_name or "default": {"run": options.run, **env}}
    else:
        specs = _from_file(options, options.file)
    return {name: _changed(spec, options) for name, spec in specs.items()}


def _from_file(options: TrainOptions, file: Path) -> dict[str, Any]:
    from rllib_distill.cli.experiment_file import read_experiment_file

    for flag, value in (("--run", options.run), ("--env", options.env)):
        if value is not None:
            raise DistillError(f"{flag} {value} does not go with a file, which says that: leave it out.")
    specs = read_experiment_file(file)
    if options.experiment_name is None:
        return specs
    if options.experiment_name not in specs:
        raise DistillError(f"{file} has no experiment {options.experiment_name!r}. "
                           f"{nearest(options.experiment_name, map(str, specs))}")  # fmt: skip
    return {options.experiment_name: specs[options.experiment_name]}


def _changed(spec: Any, options: TrainOptions) -> Any:
    if not isinstance(spec, Mapping):
        return spec  # refused later, with the experiment's name
    flags = {
        "stop": options.stop,
        "num_samples": options.num_samples,
        "storage_path": options.storage_path,
        "restore": options.restore,
    }
    changed = {**spec, **{key: value for key, value in flags.items() if value is not None}}
    if options.config:
        changed["config"] = {**(spec.get("config") or {}), **options.config}
    given = {key: value for key, value in options.checkpoint_config.items() if value is not None}
    if given:
        changed["checkpoint_config"] = {**(spec.get("checkpoint_config") or {}), **given}
    return changed


def _folder(options: TrainOptions, experiments: list[Any]) -> Path:
    """One folder per run of Tune, which keeps its state there: several experiments share their file's name."""
    name = experiments[0].name if len(experiments) == 1 or options.file is None else options.file.stem
    paths = {experiment.storage_path for experiment in experiments}
    if len(paths) > 1:
        raise DistillError(f"The experiments have different storage_path: {', '.join(sorted(map(str, paths)))}; "
                           "use one, or train them one by one with -n NAME.")  # fmt: skip
    return Path(paths.pop()) / str(name)
