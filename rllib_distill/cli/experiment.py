"""One experiment of a file, or of the flags, with every key checked."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rllib_distill.cli.stop_criteria import read_stop
from rllib_distill.core.algorithm import MultiTaskAlgorithm
from rllib_distill.core.experts import StudentAlgorithm
from rllib_distill.errors import DistillError, nearest
from rllib_distill.registry import algorithm_class

_KEYS = ("run", "env", "config", "stop", "num_samples", "checkpoint_config", "storage_path", "restore",
         "max_failures", "report")  # fmt: skip
_OLD_KEYS = {
    "local_dir": "use storage_path",
    "upload_dir": "use storage_path",
    "resources_per_trial": "set num_env_runners, num_learners, num_cpus_for_main_process in config",
    "checkpoint_freq": "use checkpoint_config: {checkpoint_frequency: N}",
    "checkpoint_at_end": "use checkpoint_config: {checkpoint_at_end: true}",
    "keep_checkpoints_num": "use checkpoint_config: {num_to_keep: N}",
    "checkpoint_score_attr": "use checkpoint_config: {checkpoint_score_attribute: NAME}",
}
_CHECKPOINT_KEYS = ("checkpoint_frequency", "checkpoint_at_end", "num_to_keep", "checkpoint_score_attribute",
                    "checkpoint_score_order")  # fmt: skip


@dataclass(frozen=True)
class ReportOptions:
    """How the final scores are played.

    Attributes:
        episodes: Of every task by every player.
        steps: Instead, what ends within so many steps of every task by every player.
        epsilon: Chance of a random action; None: the config's `evaluation_epsilon`.
        seed: Of environments and chance.
        expected: Between which geometric means of student / expert runs of this experiment should end; None
            says nothing about it.
    """

    episodes: int = 100
    steps: int | None = None
    epsilon: float | None = None
    seed: int = 0
    expected: tuple[float, float] | None = None

    @property
    def amount(self) -> str:
        """For people."""
        return f"{self.episodes} episodes" if self.steps is None else f"{self.steps:,} steps"


@dataclass(frozen=True)
class Experiment:
    """What Tune is to run.

    Attributes:
        name: The experiment's, which names its folder.
        run: The algorithm's.
        config: Of the algorithm, flat, possibly with `grid_search`.
        stop: Flat result key -> value at which a trial stops.
        num_samples: How often to run each combination.
        checkpoint_config: Options of `tune.CheckpointConfig`.
        storage_path: Folder of the experiment's folder.
        restore: Checkpoint to start from.
        max_failures: How often a trial that failed starts again from its last checkpoint.
        report: How to play the final scores; None plays none.
    """

    name: str
    run: str
    config: dict[str, Any]
    stop: dict[str, float]
    num_samples: int
    checkpoint_config: dict[str, Any]
    storage_path: Path
    restore: Path | None
    max_failures: int
    report: ReportOptions | None

    @property
    def algorithm(self) -> type[Any]:
        """The algorithm's class."""
        return algorithm_class(self.run)

    @classmethod
    def from_spec(cls, name: str, spec: Any) -> "Experiment":
        """Reads `{run: ..., config: {...}, stop: {...}, ...}`.

        Args:
            name: The experiment's.
            spec: What a file says, changed by flags.

        Raises:
            DistillError: A key or a value is wrong; the message names the experiment.
        """
        try:
            return cls._read(name, _mapping("an experiment", spec))
        except DistillError as error:
            raise DistillError(f"Experiment {name!r}: {error}") from None

    @classmethod
    def _read(cls, name: str, spec: Mapping[str, Any]) -> "Experiment":
        if not isinstance(name, str) or not name or "/" in name or name.startswith("."):
            raise DistillError(f"the name {name!r} cannot be a folder's; use letters, digits, '-' and '_'.")
        for key in spec:
            if key in _OLD_KEYS:
                raise DistillError(f"the key {key!r} is gone: {_OLD_KEYS[key]}.")
        _check_keys(spec, _KEYS)
        if "run" not in spec:
            raise DistillError("the key 'run' is missing; give an algorithm, e.g. run: ActorMimic.")
        algorithm = algorithm_class(spec["run"])
        config = dict(_mapping("config", spec.get("config")))
        stop = read_stop(_mapping("stop", spec.get("stop")))
        if issubclass(algorithm, MultiTaskAlgorithm):
            if config.get("stop") not in (None, stop):
                raise DistillError("config has a stop of its own: write it beside config, not in it.")
            config["stop"] = stop or None  # for schedules by progress
        for key in config:
            if not isinstance(key, str):
                raise DistillError(f"the key {key!r} of config is a {type(key).__name__}; keys must be text.")
        if "env" in spec:
            config["env"] = spec["env"]
        return cls(
            name=name,
            run=spec["run"],
            config=_with_absolute_paths(config),
            stop=stop,
            num_samples=_count("num_samples", spec.get("num_samples", 1), least=1),
            checkpoint_config=_checkpoint_config(
                _mapping("checkpoint_config", spec.get("checkpoint_config"))
            ),
            storage_path=_path("storage_path", spec.get("storage_path") or "results"),
            restore=_checkpoint(spec.get("restore")),
            max_failures=_count("max_failures", spec.get("max_failures", 0), least=-1),
            report=_report(spec.get("report"), algorithm),
        )


def _check_keys(spec: Mapping[str, Any], known: tuple[str, ...], where: str = "") -> None:
    for key in spec:
        if key not in known:
            raise DistillError(f"unknown key {key!r}{where}. {nearest(str(key), known)}")


def _mapping(name: str, value: Any) -> Mapping[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise DistillError(f"{name} is {value!r}; it must be a mapping.")
    return value


def _count(name: str, value: Any, least: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise DistillError(f"{name} is {value!r}; it must be an integer >= {least}.")
    return value


def _path(name: str, value: Any) -> Path:
    if not isinstance(value, str | Path) or "://" in str(value):
        raise DistillError(f"{name} is {value!r}; it must be a folder's path.")
    return Path(value).expanduser().resolve()


def _checkpoint(value: Any) -> Path | None:
    if value is None:
        return None
    path = _path("restore", value)
    if not (path / "rllib_checkpoint.json").is_file():
        raise DistillError(f"restore is {str(value)!r}, which is not the folder of an RLlib checkpoint.")
    return path


def _checkpoint_config(spec: Mapping[str, Any]) -> dict[str, Any]:
    from ray.tune import CheckpointConfig

    _check_keys(spec, _CHECKPOINT_KEYS, " in checkpoint_config")
    options = {"checkpoint_at_end": True, **spec}
    try:
        CheckpointConfig(**options)
    except (TypeError, ValueError) as error:
        raise DistillError(f"checkpoint_config is {dict(spec)!r}: {error}") from None
    return options


def _report(spec: Any, algorithm: type[Any]) -> ReportOptions | None:
    if spec is False:
        return None
    if spec is True:
        spec = None
    values = _mapping("report", spec)
    _check_keys(values, ("episodes", "steps", "epsilon", "seed", "expected"), " in report")
    if "episodes" in values and "steps" in values:
        raise DistillError(f"report is {dict(values)!r}; give either episodes or steps.")
    report = ReportOptions(**{**values, "expected": _expected(values.get("expected"), algorithm)})
    _count("report: episodes", report.episodes, least=1)
    if report.steps is not None:
        _count("report: steps", report.steps, least=1)
    _count("report: seed", report.seed, least=0)
    epsilon = report.epsilon
    if epsilon is not None and (isinstance(epsilon, bool | str) or not 0 <= epsilon <= 1):
        raise DistillError(f"report: epsilon is {epsilon!r}; it must be a number from 0 to 1.")
    return report


def _expected(value: Any, algorithm: type[Any]) -> tuple[float, float] | None:
    if value is None:
        return None
    numbers = value if isinstance(value, list | tuple) else ()
    if len(numbers) != 2 or any(isinstance(n, bool) or not isinstance(n, int | float) for n in numbers):
        raise DistillError(
            f"report: expected is {value!r}; it must be the lowest and the highest geometric mean, "
            "e.g. [0.9, 1.0]."
        )
    if numbers[0] > numbers[1]:
        raise DistillError(f"report: expected is {value!r}; the lowest value comes first.")
    if not issubclass(algorithm, StudentAlgorithm):
        raise DistillError(
            "report: expected is what a student scores of its experts' scores, and "
            f"{algorithm.__name__} has no student: leave it out."
        )
    return float(numbers[0]), float(numbers[1])


def _with_absolute_paths(config: dict[str, Any]) -> dict[str, Any]:
    """Files are relative to the user's folder; a trial, now or resumed, may have another."""
    experts = config.get("experts")
    if isinstance(experts, Mapping):
        config["experts"] = {
            task: str(Path(path).expanduser().resolve()) if isinstance(path, str) else path
            for task, path in experts.items()
        }
    if isinstance(config.get("init_from"), str):
        config["init_from"] = str(Path(config["init_from"]).expanduser().resolve())
    return config
