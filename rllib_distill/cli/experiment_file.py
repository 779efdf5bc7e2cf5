"""Reading experiments from YAML: top level = experiment name -> what to run."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from rllib_distill.errors import DistillError


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
    try:
        specs = yaml.load(path.read_text(encoding="utf-8"), Loader=_UniqueKeys)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise DistillError(f"Cannot read the experiment file {path}: {reason}.") from None
    except yaml.YAMLError as error:
        raise DistillError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(specs, Mapping) or not specs:
        got = "empty" if specs is None else f"a {type(specs).__name__}"
        raise DistillError(
            f"{path} is {got}; it must map experiment names to what to run, "
            "e.g. my-experiment: {run: ActorMimic, config: {...}}."
        )
    if "run" in specs:
        raise DistillError(f"{path} has 'run' at the top level; indent it below an experiment's name.")
    return dict(specs)


class _UniqueKeys(yaml.SafeLoader):
    """YAML's safe loader keeps the last of equal keys in silence; this one refuses them."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1 and key != "<<":
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} is there twice", node.start_mark
                )
        return super().construct_mapping(node, deep)
