"""Ray for the time of one command, without its chatter."""

import logging
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

_QUIET = {
    "RAY_AIR_NEW_OUTPUT": "0",  # Tune's own tables: `verbose=0` silences the old ones only
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # a warning about the future
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # relative paths mean the user's folder, in trials too
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # ours saves first, see `interrupt`
    "TUNE_WARN_THRESHOLD_S": "30",
    "TUNE_WARN_INSUFFICENT_RESOURCE_THRESHOLD_S": "1000000000",  # we check that before
    "PYTHONWARNINGS": "ignore",
}


def quiet_ray(log_level: str) -> None:
    """Keeps Ray and its workers quiet; call it before Ray is imported."""
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    warnings.simplefilter("ignore")
    for name in ("ray", "ray.rllib", "ray.tune"):
        logging.getLogger(name).setLevel(log_level)


@contextmanager
def ray_session(options: Mapping[str, Any], log_level: str = "ERROR") -> Iterator[None]:
    """Starts Ray, or joins a cluster, and leaves afterwards what was found before.

    Args:
        options: Of `ray.init`; those that are None are left to Ray.
        log_level: Of the messages shown.
    """
    import ray

    if ray.is_initialized():
        yield
        return
    given = {name: value for name, value in options.items() if value is not None}
    given.setdefault("address", "local")
    ray.init(
        **given,
        include_dashboard=False if given["address"] == "local" else None,
        log_to_driver=log_level != "ERROR",
        logging_level=logging.getLevelName(log_level),
    )
    quiet_ray(log_level)  # starting Ray sets the levels anew
    try:
        yield
    finally:
        ray.shutdown()
