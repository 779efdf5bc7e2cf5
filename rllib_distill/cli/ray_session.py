"""What the commands share: Ray, running for one command and without its messages, and checks of folders."""

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
    "RAY_AIR_NEW_OUTPUT": "0",  # no tables of Tune's new kind, which `verbose=0` does not silence
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # no warning about a future change
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # relative paths start at the user's folder, in trials too
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # `StopGently` handles Ctrl-C: it saves checkpoints first
    "TUNE_WARN_THRESHOLD_S": "30",
    "TUNE_WARN_INSUFFICENT_RESOURCE_THRESHOLD_S": "1000000000",  # `check_experiment` checks resources
    "PYTHONWARNINGS": "ignore",  # in workers
}


@contextmanager
def quiet_ray(log_level: str = "ERROR") -> Iterator[None]:
    """Keeps Ray and its workers quiet from now on; Ray must be imported and started inside of this context.

    Args:
        log_level: The lowest level of messages that are still shown.
    """
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    warnings.simplefilter("ignore")
    _set_log_levels(log_level)
    yield
    _set_log_levels(log_level)  # again, since Ray sets its own levels when it is imported and started


def _set_log_levels(level: str) -> None:
    for name in ("ray", "ray.rllib"):
        logging.getLogger(name).setLevel(level)
    # Tune returns the errors of trials, which are then reported; it should not log them, too.
    logging.getLogger("ray.tune").setLevel("CRITICAL" if level == "ERROR" else level)


@contextmanager
def ray_session(options: Mapping[str, Any], log_level: str = "ERROR") -> Iterator[None]:
    """Starts Ray or joins a cluster, and disconnects at the end; does nothing if Ray already runs here.

    Args:
        options: Options of `ray.init`; None is the same as a missing option.
        log_level: The lowest level of messages that are shown.

    Raises:
        DistillError: Ray cannot be started or joined with these options.
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
    """Returns the numbers of CPUs and GPUs with which Ray would be started.

    Args:
        options: Options of `ray.init`.

    Returns:
        `{"CPU": ..., "GPU": ...}`; None if these options join a running cluster.
    """
    import torch

    if not _starts_ray(options):
        return None
    gpus = options.get("num_gpus")
    return {
        "CPU": options.get("num_cpus") or _num_cores(),
        "GPU": torch.cuda.device_count() if gpus is None else gpus,
    }


def _starts_ray(options: Mapping[str, Any]) -> bool:
    """Whether these options start Ray rather than join a running cluster."""
    return options.get("address") in (None, "local")


def _num_cores() -> int:
    """The number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def command_line() -> str:
    """Returns the user's command, as typed into a shell."""
    return shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])


def short(path: Path) -> str:
    """Returns the path, relative to the working folder if it is inside of it."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def check_writable(folder: Path, flag: str) -> None:
    """Checks that files can be written into a folder, which need not exist and is not created.

    Args:
        folder: The absolute path of the folder.
        flag: The flag that sets the folder, for the message.

    Raises:
        DistillError: No files can be written into the folder.
    """
    parent = next(parent for parent in (folder, *folder.parents) if parent.exists())
    try:
        with TemporaryDirectory(dir=parent):
            pass
    except OSError as error:
        raise DistillError(
            f"Cannot write results to {folder}: {error.strerror} ({parent}). Choose another {flag}."
        ) from None
