"""The experiments to train: read from a file and flags, and checked completely before training starts."""

import sys
from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, PrivateAttr, ValidationInfo, field_validator, model_validator

from rllib_distill.errors import DistillError, nearest, text_hint
from rllib_distill.files import read_yaml
from rllib_distill.registry import algorithm_class
from rllib_distill.schema import Schema, validate

_OLD_KEYS = {
    "local_dir": "use storage_path",
    "upload_dir": "use storage_path",
    "resources_per_trial": "set num_env_runners, num_learners, num_cpus_for_main_process in config",
    "checkpoint_freq": "use checkpoint_config: {checkpoint_frequency: N}",
    "checkpoint_at_end": "use checkpoint_config: {checkpoint_at_end: true}",
    "keep_checkpoints_num": "use checkpoint_config: {num_to_keep: N}",
    "checkpoint_score_attr": "use checkpoint_config: {checkpoint_score_attribute: NAME}",
}
_RETURN = "env_runners/episode_return_mean"
_OLD_STOP_KEYS = {
    "timesteps_total": "num_env_steps_sampled_lifetime",
    "num_env_steps_sampled": "num_env_steps_sampled_lifetime",
    "episode_reward_mean": _RETURN,
    "env_runners/episode_reward_mean": _RETURN,
    "sampler_results/episode_reward_mean": _RETURN,
    "evaluation/episode_reward_mean": f"evaluation/{_RETURN}",
    "evaluation/sampler_results/episode_reward_mean": f"evaluation/{_RETURN}",
}
# Keys that RLlib's configs accept and translate into others.
_TRANSLATED_KEYS = {"lambda", "num_workers", "multiagent", "framework", "input", "callbacks"}


class ReportOptions(Schema):
    """How the final scores are measured.

    Attributes:
        episodes: Number of episodes per task and policy.
        steps: Number of steps per task and policy (an epoch, see `play_steps`), instead of `episodes`.
        epsilon: Probability of a random action; None takes the config's `evaluation_epsilon`.
        seed: Seed of environments and random actions.
        expected: The lowest and the highest geometric mean of student / expert that is expected of this
            experiment's runs; None if nothing is expected.
    """

    episodes: int = Field(default=100, ge=1, description="an integer >= 1")
    steps: int | None = Field(default=None, ge=1, description="an integer >= 1")
    epsilon: float | None = Field(default=None, ge=0, le=1, description="a number from 0 to 1")
    seed: int = Field(default=0, ge=0, description="an integer >= 0")
    expected: tuple[float, float] | None = Field(
        default=None, description="the lowest and the highest geometric mean, e.g. [0.9, 1.0]"
    )

    @property
    def amount(self) -> str:
        """The number of episodes or steps as a text."""
        return f"{self.episodes} episodes" if self.steps is None else f"{self.steps:,} steps"

    @model_validator(mode="before")
    @classmethod
    def _gives_one_amount(cls, values: Any) -> Any:
        if isinstance(values, Mapping) and {"episodes", "steps"} <= set(values):
            raise ValueError("give either episodes or steps.")
        return values

    @field_validator("expected")
    @classmethod
    def _ascends(cls, expected: tuple[float, float] | None) -> tuple[float, float] | None:
        if expected is not None and expected[0] > expected[1]:
            raise ValueError("the lowest value comes first.")
        return expected


class CheckpointOptions(Schema):
    """When trials save checkpoints, and which of them are kept, as in `tune.CheckpointConfig`."""

    checkpoint_at_end: bool = True
    checkpoint_frequency: int = Field(default=0, ge=0, description="an integer >= 0")
    num_to_keep: int | None = Field(default=None, ge=1, description="an integer >= 1")
    checkpoint_score_attribute: str | None = None
    checkpoint_score_order: Literal["max", "min"] = "max"


class Experiment(Schema):
    """An experiment for Tune to run, as described in a file below the experiment's name.

    Attributes:
        run: The name of the algorithm, see `algorithm_class`.
        env: The environment of one of RLlib's own algorithms; it is copied into `config`.
        stop: Flat result key -> value at which a trial stops; a file may also nest the keys.
        config: The algorithm's flat config, possibly with `grid_search`; paths are absolute.
        num_samples: Number of trials per combination of `grid_search` values.
        checkpoint_config: When to save checkpoints, and which to keep.
        storage_path: The folder in which the folder with the results is made.
        restore: The checkpoint from which trials start.
        max_failures: How often a failed trial is restarted from its last checkpoint; -1 for no limit.
        report: How the final scores are measured; None (`false` in a file) for no report.
    """

    run: str = Field(description="an algorithm, e.g. ActorMimic")
    env: Any = None
    stop: dict[str, int | float] = Field(default={}, description="a mapping, e.g. {training_iteration: 100}")
    config: dict[str, Any] = Field(default={}, validate_default=True)
    num_samples: int = Field(default=1, ge=1, description="an integer >= 1")
    checkpoint_config: CheckpointOptions = CheckpointOptions()
    storage_path: Path = Field(default=Path("results"), validate_default=True)
    restore: Path | None = None
    max_failures: int = Field(default=0, ge=-1, description="an integer >= -1")
    report: ReportOptions | None = ReportOptions()
    _name: str = PrivateAttr("")

    @classmethod
    def from_spec(cls, name: str, spec: Any) -> "Experiment":
        """Reads and checks a specification `{run: ..., config: {...}, stop: {...}, ...}`.

        Args:
            name: The experiment's name.
            spec: The specification, as `read_specs` returns it.

        Raises:
            DistillError: The name, a key or a value is wrong; the message names the experiment.
        """
        where = f"Experiment {name!r}"
        if not isinstance(name, str) or not name or "/" in name or name.startswith("."):
            raise DistillError(f"{where}: the name cannot be a folder's; use letters, digits, '-' and '_'.")
        experiment = validate(cls, spec, where)
        experiment._name = name
        return experiment

    @property
    def name(self) -> str:
        """The experiment's name."""
        return self._name

    @property
    def algorithm(self) -> type[Any]:
        """The algorithm's class."""
        return algorithm_class(self.run)

    @model_validator(mode="before")
    @classmethod
    def _without_empty_keys(cls, spec: Any) -> Any:
        """Drops keys without a value: in YAML, `config:` with nothing below it is None."""
        if not isinstance(spec, Mapping):
            return {} if spec is None else spec
        for key in spec:
            if key in _OLD_KEYS:
                raise DistillError(f"the key {key!r} is gone: {_OLD_KEYS[key]}.")
        return {key: value for key, value in spec.items() if value is not None}

    @field_validator("run")
    @classmethod
    def _is_known(cls, run: str) -> str:
        algorithm_class(run)
        return run

    @field_validator("stop", mode="before")
    @classmethod
    def _is_flat(cls, stop: Any) -> Any:
        return read_stop(stop) if isinstance(stop, Mapping) else stop

    @field_validator("config")
    @classmethod
    def _is_complete(cls, config: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        from rllib_distill.core.algorithm import MultiTaskAlgorithm

        stop = info.data.get("stop", {})
        if "run" in info.data and issubclass(algorithm_class(info.data["run"]), MultiTaskAlgorithm):
            if config.get("stop") not in (None, stop):
                raise DistillError("config has a stop of its own: write it beside config, not in it.")
            config["stop"] = stop or None  # schedules by shares of the run need it
        if info.data.get("env") is not None:
            config["env"] = info.data["env"]
        return _with_absolute_paths(config)

    @field_validator("storage_path", mode="before")
    @classmethod
    def _is_folder(cls, value: Any) -> Path:
        if not isinstance(value, str | Path) or "://" in str(value):
            raise ValueError("it must be a folder's path.")
        return _absolute(value)

    @field_validator("restore", mode="before")
    @classmethod
    def _is_checkpoint(cls, value: Any) -> Path:
        if not isinstance(value, str | Path) or not (_absolute(value) / "rllib_checkpoint.json").is_file():
            raise ValueError("it must be the folder of an RLlib checkpoint.")
        return _absolute(value)

    @field_validator("report", mode="before")
    @classmethod
    def _may_be_a_truth(cls, report: Any) -> Any:
        return {True: ReportOptions(), False: None}[report] if isinstance(report, bool) else report

    @field_validator("report")
    @classmethod
    def _has_a_student(cls, report: ReportOptions | None, info: ValidationInfo) -> ReportOptions | None:
        from rllib_distill.core.experts import StudentAlgorithm

        if report is not None and report.expected is not None and "run" in info.data:
            algorithm = algorithm_class(info.data["run"])
            if not issubclass(algorithm, StudentAlgorithm):
                raise DistillError(
                    "report.expected is what a student scores of its experts' scores, and "
                    f"{algorithm.__name__} has no student: leave it out."
                )
        return report


def read_stop(spec: Mapping[str, Any]) -> dict[str, float]:
    """Flattens and checks stop criteria, since Tune would never stop at an unknown one.

    Args:
        spec: Result key -> value; nested results have the key `a/b` or `{a: {b: ...}}`.

    Returns:
        Flat key -> value, where former names of keys are replaced by the present ones.

    Raises:
        DistillError: A key is unknown, or a value is not a number or out of range.
    """
    from rllib_distill.core.schedules import check_stop

    stop = {}
    for key, value in _flat(spec).items():
        name = _OLD_STOP_KEYS.get(key, key)
        if name != key:
            print(f"note: stop: {key} is called {name} now", file=sys.stderr)
        stop[name] = value
    check_stop(stop)
    return stop


def _flat(spec: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in spec.items():
        name = f"{prefix}{key}"
        flat |= _flat(value, f"{name}/") if isinstance(value, Mapping) else {name: value}
    return flat


def _absolute(path: str | Path) -> Path:
    return Path(path).expanduser().resolve()


def _with_absolute_paths(config: dict[str, Any]) -> dict[str, Any]:
    """Makes the config's paths absolute, since a trial or a resumed run may have another working folder."""
    experts, init_from = config.get("experts"), config.get("init_from")
    if isinstance(experts, Mapping):
        config["experts"] = {
            task: str(_absolute(path)) if isinstance(path, str) else path for task, path in experts.items()
        }
    if isinstance(init_from, str):
        config["init_from"] = str(_absolute(init_from))
    return config


# -- from a file and flags to specifications ---------------------------------------------------------------


@dataclass(frozen=True)
class TrainOptions:
    """The flags of `rllib train`; None for a flag that was not given."""

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


def read_specs(options: TrainOptions) -> dict[str, Any]:
    """Returns the specifications of the experiments to run, without checking them.

    Args:
        options: The flags.

    Returns:
        Experiment name -> its specification: from the file and changed by flags, or made of flags alone.

    Raises:
        DistillError: The flags do not fit together, or the file cannot be read.
    """
    if options.file is not None:
        specs = _of_file(options, options.file)
    elif options.run is None:
        raise DistillError("Nothing to train: give `file EXPERIMENTS.yaml`, or --run NAME and --config JSON.")
    else:
        env = {"env": options.env} if options.env else {}
        specs = {options.experiment_name or "default": {"run": options.run, **env}}
    return {name: changed(spec, options) for name, spec in specs.items()}


def _of_file(options: TrainOptions, file: Path) -> dict[str, Any]:
    for flag, value in (("--run", options.run), ("--env", options.env)):
        if value is not None:
            raise DistillError(f"{flag} {value} does not go with a file, which says that: leave it out.")
    specs, name = read_experiment_file(file), options.experiment_name
    if name is None:
        return specs
    if name not in specs:
        raise DistillError(f"{file} has no experiment {name!r}. {nearest(name, map(str, specs))}")
    return {name: specs[name]}


def read_experiment_file(path: Path) -> dict[str, Any]:
    """Reads a YAML (or JSON) file of experiments.

    Args:
        path: The path of the file, whose top level maps experiment names to specifications.

    Returns:
        Experiment name -> its unchecked specification.

    Raises:
        DistillError: The file cannot be read, is not YAML, or is not a mapping of experiments.
    """
    if path.suffix == ".py":
        raise DistillError(
            f"{path} is a Python file: run it with python, or describe the experiment in YAML."
        )
    specs = read_yaml(path, "experiment file")
    if not isinstance(specs, Mapping) or not specs:
        got = "empty" if specs is None else f"a {type(specs).__name__}"
        raise DistillError(
            f"{path} is {got}; it must map experiment names to what to run, "
            "e.g. my-experiment: {run: ActorMimic, config: {...}}."
        )
    if "run" in specs:
        raise DistillError(f"{path} has 'run' at the top level; indent it below an experiment's name.")
    return dict(specs)


def changed(spec: Any, options: TrainOptions) -> Any:
    """Returns an experiment's specification with the flags' changes; a wrong one is returned as it is."""
    if not isinstance(spec, Mapping):
        return spec  # `Experiment.from_spec` will refuse it
    flags = {key: getattr(options, key) for key in ("stop", "num_samples", "storage_path", "restore")}
    result = {**spec, **_given(flags)}
    for key, changes in (("config", options.config or {}), ("checkpoint_config", options.checkpoint_config)):
        if _given(changes) and isinstance(spec.get(key) or {}, Mapping):
            result[key] = {**(spec.get(key) or {}), **_given(changes)}
    report = spec.get("report")
    flags_that_matter = (options.config, options.stop, options.restore, options.scheduler.upper() != "FIFO")
    if any(flags_that_matter) and isinstance(report, Mapping):  # the expected result is that of other flags
        result["report"] = {key: value for key, value in report.items() if key != "expected"}
    return result


def _given(flags: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in flags.items() if value is not None}


# -- checks that need the algorithm's class and the machine's resources ------------------------------------


def check_experiment(experiment: Experiment, resources: Mapping[str, float] | None) -> None:
    """Builds and validates the algorithm's config for every combination of `grid_search` values.

    Args:
        experiment: The experiment.
        resources: The CPUs and GPUs for trials, `{"CPU": ..., "GPU": ...}`; None, for a cluster, checks none.

    Raises:
        DistillError: A config is wrong, or a trial asks for more resources than there are.
    """
    from ray.rllib.algorithms.algorithm import Algorithm

    algorithm = experiment.algorithm
    if not issubclass(algorithm, Algorithm):
        return  # nothing is known about the config of other trainables
    try:
        for config in grid_points(experiment.config):
            _check_config(algorithm, config)
            if resources is not None:
                _check_resources(algorithm, config, resources)
    except (ValueError, TypeError) as error:  # DistillError, and RLlib's own checks
        raise DistillError(f"Experiment {experiment.name!r}: {error}") from None


def grid_points(config: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yields the config once per combination of its `grid_search` values."""
    from ray.tune.search.variant_generator import generate_variants

    for _, variant in generate_variants(deepcopy(config)):
        yield variant


def _check_config(algorithm: type[Any], values: dict[str, Any]) -> None:
    from ray.rllib.algorithms.algorithm_config import AlgorithmConfig

    from rllib_distill.core.config import MultiTaskConfig

    config = algorithm.get_default_config()
    # Configs of this package check all keys, and the values of those that RLlib does not have.
    checks_itself = isinstance(config, MultiTaskConfig)
    defaults = AlgorithmConfig() if checks_itself else config
    for key, value in values.items():
        _check_type(key, value, getattr(defaults, key, None))
    if not checks_itself:
        _check_stock_keys(config, values)
    config.update_from_dict(values)
    config.validate()


def _check_type(key: str, value: Any, default: Any) -> None:
    """Refuses a text for a number, for which RLlib would raise an unclear TypeError."""
    if isinstance(default, int | float) and isinstance(value, str) and value != "auto":
        kind = "true or false" if isinstance(default, bool) else "a number"
        raise DistillError(f"{key} is {value!r} (text); it must be {kind}.{text_hint(value)}")


def _check_stock_keys(config: Any, values: dict[str, Any]) -> None:
    """Refuses unknown keys, which RLlib would accept silently, and the old API stack."""
    known = {name.removeprefix("_") for name in vars(config)} | _TRANSLATED_KEYS
    for key in values:
        if key not in known and f"_{key}" not in known:
            near = nearest(str(key), known, list_known=False)
            raise DistillError(f"Unknown key {key!r} in the config of {config.algo_class.__name__}. {near}")
    if values.get("enable_rl_module_and_learner") is False:
        raise DistillError("enable_rl_module_and_learner is False, the old API stack: remove the key.")


def _check_resources(algorithm: type[Any], config: dict[str, Any], available: Mapping[str, float]) -> None:
    """Refuses a trial that asks for more resources than there are, since Tune would wait for them forever."""
    wanted = algorithm.default_resource_request(deepcopy(config)).required_resources
    for name, flag in (("CPU", "--ray-num-cpus"), ("GPU", "--ray-num-gpus")):
        amount = wanted.get(name, 0)
        if amount > available[name]:
            raise DistillError(
                f"a trial asks for {amount:g} {name}s (main process, env runners, learners), but there are "
                f"{available[name]:g}: lower num_env_runners or num_learners, or let processes share with "
                f"{flag} {amount:g}."
            )
