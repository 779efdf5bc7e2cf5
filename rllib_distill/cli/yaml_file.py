"""Reading YAML (or JSON) that a person wrote."""

from pathlib import Path
from typing import Any

import yaml

from rllib_distill.errors import DistillError


def read_yaml(path: Path, kind: str) -> Any:
    """Reads a file.

    Args:
        path: Of a YAML (or JSON) file.
        kind: What it is called in messages.

    Returns:
        What it says, unchecked.

    Raises:
        DistillError: No such file, not YAML, or a key that is there twice.
    """
    try:
        return yaml.load(path.read_text(encoding="utf-8"), Loader=_UniqueKeys)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise DistillError(f"Cannot read the {kind} {path}: {reason}.") from None
    except yaml.YAMLError as error:
        raise DistillError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from None


_MERGE = "tag:yaml.org,2002:merge"


class _UniqueKeys(yaml.SafeLoader):
    """YAML's safe loader keeps the last of equal keys in silence; this one refuses them."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        # What `<<: *other` brings may be changed.
        written = [key for key, _ in node.value if key.tag != _MERGE]
        keys = [self.construct_object(key, deep=True) for key in written]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} is there twice", node.start_mark
                )
        return super().construct_mapping(node, deep)
