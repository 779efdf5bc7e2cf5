"""A learner's share of the replay memories, in a file of the checkpoint."""

from pathlib import Path
from typing import Protocol


class Memory(Protocol):
    """A memory that can be written to a file."""

    def save(self, path: Path) -> None:
        """Writes all of it."""

    def load(self, path: Path) -> None:
        """Reads what `save` wrote."""


def save_shard(memory: Memory, folder: Path, rank: int) -> None:
    """Writes a rank's memory."""
    folder.mkdir(parents=True, exist_ok=True)
    memory.save(folder / f"rank_{rank}.pkl")


def load_shard(memory: Memory, folder: Path, rank: int) -> None:
    """Reads a rank's memory, if there was one of this rank."""
    path = folder / f"rank_{rank}.pkl"
    if path.exists():
        memory.load(path)
