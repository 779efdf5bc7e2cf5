"""Which module acts for a task."""

from collections.abc import Mapping
from typing import Any


class ModuleOf:
    """A policy mapping function that can be pickled and compared: task name -> module id."""

    def __init__(self, module_of: Mapping[str, str]):
        """Maps as the dict says."""
        self.module_of = dict(module_of)

    def __call__(self, agent_id: str, episode: Any = None, **_: Any) -> str:
        """RLlib's signature; the agent id is the task's name."""
        return self.module_of[agent_id]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ModuleOf) and other.module_of == self.module_of

    __hash__ = None  # type: ignore[assignment]  # mutable
