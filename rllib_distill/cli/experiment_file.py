"""Reading experiments from YAML: top level = experiment name -> what to run."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rllib_distill.errors import DistillError
from rllib_distill.files import read_yaml


def read_experiment_file(path: Path) -> dict[str, Any]:
    """Reads a file.

    Args:
        path: Of a YAML (or JSON) file.

    Returns:
        Experiment name -> its unchecked specification.

    Raises:
        DistillError: No such file, not YAML, or not a mapping of experiments.
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
