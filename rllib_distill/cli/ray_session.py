"""Ray for the time of one command, without its chatter."""

import logging
import os
import shlex
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rllib_distill.errors import DistillError

_QUIET = {
    "RAY_AIR_NEW_OUTPUT": "0",  # Tune's own tables: `verbose=0` silences the old ones only
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # a warning about the future
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # relative paths mean the user's folder, in trials too
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # ours saves first, see `StopGently`
    "TUNE_WARN_THRESHOLD_S": "30",
    "TUNE_WARN_INSUFFICENT_RESOURCE_THRESHOLD_S": "1000000000",  # we check that before
    "PYTHONWARNINGS": "ignore",  # in workers
}


def quiet_ray(log_level: str) -> None:
    """Keeps Ray and its workers quiet; call it before Ray is imported, and again after."""
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    warnings.simplefilter("ignore")
    for name in ("ray", "ray.rllib"):
        logging.getLogger(name).setLevel(log_level)
    # What goes wrong in a trial is in the trials that Tune returns; it would say so a second time.
    logging.getLogger("ray.tune").setLevel("CRITICAL" if log_level == "ERROR" else log_level)


def starts_ray(options: Mapping[str, Any]) -> bool:
    """Whether these options start a Ray of our own rather than join a cluster."""
    return options.get("address") in (None, "local")


def num_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def ray_session(options: Mapping[str, Any], log_level: str = "ERROR") -> Iterator[None]:
    """Starts Ray, or joins a cluster, and leaves afterwards what was found before.

    Args:
        options: Of `ray.init`; those that are None are left to Ray.
        log_level: Of the messages shown.

    Raises:
        DistillError: Ray refuses.
    """
    import ray

    if ray.is_initialized():
        yield
        return
    given = {name: value for name, value in options.items() if value is not None}
    if starts_ray(options):
        given = {"address": "local", "num_cpus": num_cores(), "include_dashboard": False, **given}
    try:
        ray.init(**given, log_to_driver=log_level != "ERROR", logging_level=logging.getLevelName(log_level))
    except (ConnectionError, ValueError) as error:
        raise DistillError(f"Cannot start or join Ray with {given!r}: {error}") from None
    quiet_ray(log_level)  # starting Ray sets the levels anew
    try:
        yield
    finally:
        ray.shutdown()


def command_line() -> str:
    """What the user typed."""
    return shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])


def short(path: Path) -> str:
    """Relative to the user's folder where it is inside."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
