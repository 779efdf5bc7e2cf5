"""Everything that can be known to be wrong before anything starts or is written."""

from collections.abc import Iterator, Mapping
from copy import deepcopy
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig

from rllib_distill.cli.experiment import Experiment
from rllib_distill.cli.ray_session import num_cores, starts_ray
from rllib_distill.core.checks import text_hint
from rllib_distill.core.config import MultiTaskConfig
from rllib_distill.errors import DistillError, nearest

_TRANSLATED_KEYS = {"lambda", "num_workers", "multiagent", "framework", "input", "callbacks"}  # by RLlib


def check_experiment(experiment: Experiment, resources: Mapping[str, float] | None) -> None:
    """Builds and validates the algorithm's config for every grid point.

    Args:
        experiment: To check.
        resources: What trials may use, `{"CPU": ..., "GPU": ...}`; None leaves that to the cluster.

    Raises:
        DistillError: The first thing that is wrong.
    """
    try:
        for config in grid_points(experiment.config):
            _check_config(experiment.algorithm, config)
            if resources is not None:
                _check_resources(experiment.algorithm, config, resources)
    except (ValueError, TypeError) as error:  # DistillError, and RLlib's own checks
        raise DistillError(f"Experiment {experiment.name!r}: {error}") from None


def grid_points(config: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The config once per combination of its `grid_search` values."""
    from ray.tune.search.variant_generator import generate_variants

    for _, variant in generate_variants(deepcopy(config)):
        yield variant


def check_writable(folder: Path) -> None:
    """Raises DistillError unless files can be made in `folder`, which need not exist yet; leaves no trace."""
    parent = next(parent for parent in (folder, *folder.parents) if parent.exists())
    try:
        with TemporaryDirectory(dir=parent):
            pass
    except OSError as error:
        raise DistillError(
            f"Cannot write results to {folder}: {error.strerror} ({parent}). Choose another --storage-path."
        ) from None


def available_resources(ray_options: Mapping[str, Any]) -> dict[str, float] | None:
    """What the Ray that will be started has; None for a cluster that is there already."""
    if not starts_ray(ray_options):
        return None
    gpus = ray_options.get("num_gpus")
    return {
        "CPU": ray_options.get("num_cpus") or num_cores(),
        "GPU": torch.cuda.device_count() if gpus is None else gpus,
    }


def _check_config(algorithm: type[Any], values: dict[str, Any]) -> None:
    config = algorithm.get_default_config()
    # Ours check all keys, and the values of those that RLlib has not.
    checks_itself = isinstance(config, MultiTaskConfig)
    defaults = AlgorithmConfig() if checks_itself else config
    for key, value in values.items():
        _check_type(key, value, getattr(defaults, key, None))
    if not checks_itself:
        _check_stock_keys(config, values)
    config.update_from_dict(values)
    config.validate()


def _check_type(key: str, value: Any, default: Any) -> None:
    """RLlib compares a text with numbers, and says so in Python's words."""
    if isinstance(default, int | float) and isinstance(value, str) and value != "auto":
        kind = "true or false" if isinstance(default, bool) else "a number"
        raise DistillError(f"{key} is {value!r} (text); it must be {kind}.{text_hint(value)}")


def _check_stock_keys(config: Any, values: dict[str, Any]) -> None:
    """RLlib takes unknown keys in silence."""
    known = {name.removeprefix("_") for name in vars(config)} | _TRANSLATED_KEYS
    for key in values:
        if key not in known and f"_{key}" not in known:
            near = nearest(str(key), known, list_known=False)
            raise DistillError(f"Unknown key {key!r} in the config of {config.algo_class.__name__}. {near}")
    if values.get("enable_rl_module_and_learner") is False:
        raise DistillError("enable_rl_module_and_learner is False, the old API stack: remove the key.")


def _check_resources(algorithm: type[Any], config: dict[str, Any], available: Mapping[str, float]) -> None:
    """Tune would wait for ever."""
    wanted = algorithm.default_resource_request(deepcopy(config)).required_resources
    for name, flag in (("CPU", "--ray-num-cpus"), ("GPU", "--ray-num-gpus")):
        amount = wanted.get(name, 0)
        if amount > available[name]:
            raise DistillError(
                f"a trial asks for {amount:g} {name}s (main process, env runners, learners), but there are "
                f"{available[name]:g}: lower num_env_runners or num_learners, or let processes share with "
                f"{flag} {amount:g}."
            )
