"""What the commands share: Ray for the time of one command, without its chatter, and the user's folders."""

import logging
import os
import shlex
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
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


@contextmanager
def quiet_ray(log_level: str = "ERROR") -> Iterator[None]:
    """Keeps Ray and its workers quiet from now on; Ray is to be imported or started inside of it.

    Args:
        log_level: Of the messages that are shown all the same.
    """
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    warnings.simplefilter("ignore")
    _set_log_levels(log_level)
    yield
    _set_log_levels(log_level)  # Ray sets its own when it is imported, and when it starts


def _set_log_levels(level: str) -> None:
    for name in ("ray", "ray.rllib"):
        logging.getLogger(name).setLevel(level)
    # What goes wrong in a trial is in the trials that Tune returns; it would say so a second time.
    logging.getLogger("ray.tune").setLevel("CRITICAL" if level == "ERROR" else level)


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
    if _starts_ray(options):
        given = {"address": "local", "num_cpus": _num_cores(), "include_dashboard": False, **given}
    level = logging.getLevelName(log_level)
    try:
        with quiet_ray(log_level):
            ray.init(**given, log_to_driver=log_level != "ERROR", logging_level=level)
    except (ConnectionError, ValueError) as error:
        raise DistillError(f"Cannot start or join Ray with {given!r}: {error}") from None
    try:
        yield
    finally:
        ray.shutdown()


def available_resources(options: Mapping[str, Any]) -> dict[str, float] | None:
    """Returns what a Ray that is started with these options has; None for a cluster that is there already."""
    import torch

    if not _starts_ray(options):
        return None
    gpus = options.get("num_gpus")
    return {
        "CPU": options.get("num_cpus") or _num_cores(),
        "GPU": torch.cuda.device_count() if gpus is None else gpus,
    }


def _starts_ray(options: Mapping[str, Any]) -> bool:
    """Whether these options start a Ray of our own rather than join a cluster."""
    return options.get("address") in (None, "local")


def _num_cores() -> int:
    """The number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def command_line() -> str:
    """Returns what the user typed."""
    return shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])


def short(path: Path) -> str:
    """Returns the path relative to the user's folder where it is inside."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def check_writable(folder: Path, flag: str) -> None:
    """Checks that files can be made in a folder, which need not exist yet, and leaves no trace.

    Args:
        folder: Absolute.
        flag: By which the user chooses it.

    Raises:
        DistillError: They cannot.
    """
    parent = next(parent for parent in (folder, *folder.parents) if parent.exists())
    try:
        with TemporaryDirectory(dir=parent):
            pass
    except OSError as error:
        raise DistillError(
            f"Cannot write results to {folder}: {error.strerror} ({parent}). Choose another {flag}."
        ) from None
