"""Files: written whole or not at all, JSON and YAML for people, paths that other processes find."""

import json
import os
from collections.abc import Mapping
from contextlib import ExitStack
from errno import EISDIR
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

import yaml
from typing_extensions import override

from rllib_distill.errors import DistillError

_MERGE = "tag:yaml.org,2002:merge"


def write_atomically(path: Path, content: bytes) -> None:
    """Writes a file beside the place where it belongs, then moves it there; folders are made as needed.

    Args:
        path: Where the file belongs.
        content: All of its bytes.

    Raises:
        DistillError: The file cannot be written; what was there before stays.
    """
    write_all_atomically({path: content})


def write_all_atomically(contents: Mapping[Path, bytes]) -> None:
    """Writes files that belong together; all are complete before the first takes its place.

    Args:
        contents: Maps each path to all bytes of its file. Folders are made as needed.

    Raises:
        DistillError: A file cannot be written; what was there before stays.
    """
    written: dict[Path, str] = {}
    with ExitStack() as cleanup:
        try:
            for path, content in contents.items():
                path.parent.mkdir(parents=True, exist_ok=True)
                with NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
                    cleanup.callback(Path(file.name).unlink, missing_ok=True)
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
                os.chmod(file.name, 0o644)  # temporary files are private
                written[path] = file.name
            for path in contents:
                if path.is_dir():
                    raise IsADirectoryError(EISDIR, f"{path.name} is a folder")
            for path, name in written.items():
                os.replace(name, path)
        except OSError as error:
            raise DistillError(
                f"Cannot write {path}: {error.strerror}. Choose a folder that can be written."
            ) from None


def json_text(value: Any, indent: str = "") -> str:
    """Writes a value as JSON that a person can read and compare.

    Mappings are indented; a list of lists or mappings has one line for each of them.

    Args:
        value: Anything that JSON knows; of other values their `str` is written.
        indent: The indentation of the line that the value begins on.

    Returns:
        The text, without a line end.
    """
    inner = f"{indent}  "
    if isinstance(value, Mapping) and value:
        items = [f"{inner}{json.dumps(str(key))}: {json_text(item, inner)}" for key, item in value.items()]
        return "{\n" + ",\n".join(items) + f"\n{indent}}}"
    if isinstance(value, list | tuple) and any(isinstance(item, list | tuple | Mapping) for item in value):
        items = [f"{inner}{json.dumps(item, default=str)}" for item in value]
        return "[\n" + ",\n".join(items) + f"\n{indent}]"
    return json.dumps(value, default=str)


def read_yaml(path: Path, kind: str) -> Any:
    """Reads a YAML (or JSON) file that a person wrote.

    Args:
        path: The file's path.
        kind: What the file is called in messages, such as "results file".

    Returns:
        What the file says, unchecked.

    Raises:
        DistillError: There is no such file, it is not YAML, or it has a key twice.
    """
    try:
        return yaml.load(path.read_text(encoding="utf-8"), Loader=_UniqueKeys)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise DistillError(f"Cannot read the {kind} {path}: {reason}.") from None
    except yaml.YAMLError as error:
        raise DistillError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from None


class _UniqueKeys(yaml.SafeLoader):
    """YAML's safe loader keeps the last of equal keys in silence; this one refuses them."""

    @override
    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        # A key that `<<: *other` brings may be written again: that is what merging is for.
        written = [key for key, _ in node.value if key.tag != _MERGE]
        keys = [self.construct_object(key, deep=True) for key in written]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} is there twice", node.start_mark
                )
        return super().construct_mapping(node, deep)


def absolute_path(path: Any) -> Any:
    """Makes a user's path absolute: remote runners and Tune's trials have other working directories.

    Args:
        path: A text or a `Path`, relative to the folder where the user started; anything else is returned as
            it is, to be refused where all settings are checked.
    """
    if not isinstance(path, str | Path):
        return path
    return str(Path(os.environ.get("TUNE_ORIG_WORKING_DIR", "."), path).resolve())


def newest_checkpoint(folder: Path) -> Path | None:
    """Returns the newest checkpoint in a trial's folder; None where there is none."""
    return max(folder.glob("checkpoint_*"), default=None)
