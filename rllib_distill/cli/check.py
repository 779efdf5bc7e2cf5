"""Everything that can be known to be wrong before anything starts or is written."""

import os
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rllib_distill.cli.experiment import Experiment
from rllib_distill.cli.stop_criteria import text_hint
from rllib_distill.errors import DistillError, nearest


def check_experiment(experiment: Experiment, num_cpus: int | None) -> None:
    """Builds and validates the algorithm's config for every grid point.

    Args:
        experiment: To check.
        num_cpus: That trials may use; None leaves that to the cluster.

    Raises:
        DistillError: The first thing that is wrong.
    """
    try:
        for config in grid_points(experiment.config):
            _check_config(experiment.algorithm, config)
            _check_cpus(experiment.algorithm, config, num_cpus)
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


def available_cpus(ray_options: dict[str, Any]) -> int | None:
    """CPUs of the Ray that will be started; None for a cluster that is there already."""
    if ray_options.get("address") not in (None, "local"):
        return None
    return ray_options.get("num_cpus") or len(os.sched_getaffinity(0))


def _check_config(algorithm: type[Any], values: dict[str, Any]) -> None:
    config = algorithm.get_default_config()
    known = config.known_keys() if hasattr(config, "known_keys") else _stock_keys(config)
    for key, value in values.items():
        if key not in known:
            near = nearest(str(key), [name for name in known if not name.startswith("_")], list_known=False)
            raise DistillError(f"Unknown key {key!r} in the config of {algorithm.__name__}. {near}")
        default = getattr(config, key, None)
        if isinstance(default, int | float) and isinstance(value, str) and value != "auto":
            kind = "true or false" if isinstance(default, bool) else "a number"
            raise DistillError(f"{key} is {value!r} (text); it must be {kind}.{text_hint(value)}")
    if values.get("enable_rl_module_and_learner") is False:
        raise DistillError("enable_rl_module_and_learner is False; only RLlib's new API stack is supported: remove it.")
    config.update_from_dict(values)
    config.validate()


def _stock_keys(config: Any) -> set[str]:
    settable = {
        name
        for cls in type(config).__mro__
        for name, value in vars(cls).items()
        if isinstance(value, property) and value.fset
    }
    return {*vars(config), *settable, "lambda", "num_workers", "multiagent", "framework", "input", "callbacks"}


def _check_cpus(algorithm: type[Any], config: dict[str, Any], num_cpus: int | None) -> None:
    if num_cpus is None:
        return
    wanted = algorithm.default_resource_request(deepcopy(config)).required_resources.get("CPU", 0)
    if wanted > num_cpus:
        raise DistillError(
            f"a trial asks for {wanted:g} CPUs (main process, env runners, learners) but Ray has {num_cpus}: "
            f"lower num_env_runners or num_learners, or let processes share cores with --ray-num-cpus {wanted:g}."
        )
