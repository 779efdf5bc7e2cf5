"""Fixtures for all tests."""

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest
import torch

from rllib_distill.errors import DistillError

pytest_plugins = ["tests.configs"]


@pytest.fixture(autouse=True)
def one_torch_thread() -> None:
    """Small tensors are fastest on one thread, and tests side by side stay out of each other's way."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def ray_session() -> Iterator[None]:
    """One Ray of our own for all tests that need one, whatever else runs on the machine."""
    import ray

    ray.init(address="local", num_cpus=4, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.fixture
def refused() -> Callable[..., AbstractContextManager[pytest.ExceptionInfo[DistillError]]]:
    """Returns a context that expects a `DistillError` of one line with all the given parts."""

    @contextmanager
    def context(*parts: object) -> Iterator[pytest.ExceptionInfo[DistillError]]:
        with pytest.raises(DistillError) as error:
            yield error
        text = str(error.value)
        assert "\n" not in text
        assert all(str(part) in text for part in parts), text

    return context


@pytest.fixture
def fill_disk(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Returns a function that lets the disk be full once so many files have been written."""
    sync, calls = os.fsync, []

    def fill_disk(*, after: int = 0) -> None:
        def sync_or_fail(file: int) -> None:
            calls.append(file)
            if len(calls) == after + 1:
                raise OSError(28, "No space left on device")
            sync(file)

        monkeypatch.setattr("os.fsync", sync_or_fail)

    return fill_disk


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begins with the files that use Ray: they take long, and at the end one worker would wait for them."""
    with_ray = {item.path for item in items if "ray_session" in getattr(item, "fixturenames", ())}
    items.sort(key=lambda item: item.path not in with_ray)
