"""Writing files whole or not at all."""

import os
from pathlib import Path
from tempfile import NamedTemporaryFile

from rllib_distill.errors import DistillError


def write_atomically(path: Path, content: bytes) -> None:
    """Writes a file beside the place where it belongs, then moves it there.

    Args:
        path: Its folder must exist.
        content: All of it.

    Raises:
        DistillError: It cannot be written; what was there stays.
    """
    try:
        with NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
            try:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
                os.chmod(file.name, 0o644)  # temporary files are private
                os.replace(file.name, path)
            except BaseException:
                os.unlink(file.name)
                raise
    except OSError as error:
        raise DistillError(
            f"Cannot write {path}: {error.strerror}. Choose a folder that can be written."
        ) from None
