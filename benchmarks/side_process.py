"""Sides of a comparison: each in a process of its own, timed in turns."""

import multiprocessing
import os
import resource
import sys
import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any, Protocol, Self

PAUSE_S = 0.3  # between turns: what a side still has under way (Ray's last requests) must not burden the next


class Side(Protocol):
    """What is timed. The constructor sets up and warms up."""

    def run(self) -> float:
        """Does a small piece of work and says how much: env steps, gradient steps."""

    def peak_mb_of_helpers(self) -> float:
        """Peak memory of worker processes that belong to this side."""

    def close(self) -> None:
        """Ends what the constructor started."""


class PlainSide:
    """Base of sides that start nothing."""

    def peak_mb_of_helpers(self) -> float:
        """None are there."""
        return 0.0

    def close(self) -> None:
        """Nothing to end."""


@dataclass(frozen=True)
class SideSpec:
    """`name` for people; `target` is `module:Class`, imported by the side's own process only."""

    name: str
    target: str
    options: Mapping[str, Any]


class SideProcess:
    """The caller's end of a side: starts its process, asks for figures, ends it."""

    def __init__(self, spec: SideSpec):
        """Starts the process, which sets up while others start too; `wait` ends that."""
        self.spec = spec
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, spec.target, dict(spec.options)))
        self._process.start()
        theirs.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process.is_alive():
            if kind is None:
                self._connection.send(("close", None))
            self._connection.close()  # a side that waits for its next turn ends by itself
        self._process.join()

    def wait(self) -> None:
        """Returns when the side is set up and warm."""
        self._receive()

    def rate(self, seconds: float) -> float:
        """Units of work per second, measured for about so long."""
        self._connection.send(("rate", seconds))
        return float(self._receive())

    def peak_mb(self) -> float:
        """Peak resident memory so far, with helpers'."""
        self._connection.send(("peak_mb", None))
        return float(self._receive())

    def _receive(self) -> Any:
        try:
            kind, value = self._connection.recv()
        except EOFError:
            self._process.join()
            raise RuntimeError(f"{self.spec.name} died with exit code {self._process.exitcode}.") from None
        if kind == "error":
            raise RuntimeError(f"{self.spec.name} failed:\n{value}")
        return value


def alternate(sides: Sequence[SideProcess], repeats: int, seconds: float) -> list[list[float]]:
    """Rates of every side, measured in turns A B A B: what disturbs the machine for a while disturbs all.

    Returns:
        Per side, `repeats` rates.
    """
    for side in sides:
        side.wait()
    rates: list[list[float]] = [[] for _ in sides]
    for _ in range(repeats):
        for side, measured in zip(sides, rates, strict=True):
            time.sleep(PAUSE_S)
            measured.append(side.rate(seconds))
    return rates


def _serve(connection: Connection, target: str, options: dict[str, Any]) -> None:
    """Runs in the side's process: one line of answers on the pipe, everything else silenced."""
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, sys.stdout.fileno())
    os.dup2(silence, sys.stderr.fileno())
    try:
        _answer(connection, target, options)
    except (EOFError, BrokenPipeError):
        pass  # the caller is gone, and its own error says why
    except Exception:
        connection.send(("error", traceback.format_exc()))


def _answer(connection: Connection, target: str, options: dict[str, Any]) -> None:
    import torch

    torch.set_num_threads(1)
    # Dead units leave denormal numbers in Adam's moments, which make its step four times as slow. They come
    # after some hundred steps, not at once on both sides, and would blur what is compared.
    torch.set_flush_denormal(True)
    module, name = target.split(":")
    side: Side = getattr(import_module(module), name)(**options)
    try:
        connection.send(("ready", None))
        while (request := connection.recv())[0] != "close":
            answer = _rate(side, request[1]) if request[0] == "rate" else _peak_mb(side)
            connection.send((request[0], answer))
    finally:
        side.close()


def _rate(side: Side, seconds: float) -> float:
    side.run()  # not timed: caches are cold, and remote runners have to get going
    units, start = 0.0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        units += side.run()
    return units / (time.perf_counter() - start)


def _peak_mb(side: Side) -> float:
    return own_peak_mb() + side.peak_mb_of_helpers()


def own_peak_mb() -> float:
    """Peak resident memory of this process."""
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return kilobytes / (2**20 if sys.platform == "darwin" else 2**10)
