"""Paths that users give, where other processes find them."""

import os
from pathlib import Path
from typing import Any


def absolute_path(path: Any) -> Any:
    """Remote runners have another working directory, and so have Tune's trials, which know the user's."""
    if not isinstance(path, str | Path):
        return path  # refused later, with all the others
    return str(Path(os.environ.get("TUNE_ORIG_WORKING_DIR", "."), path).resolve())


def newest_checkpoint(folder: Path) -> Path | None:
    """Of a trial's folder; None where there is none."""
    return max(folder.glob("checkpoint_*"), default=None)
