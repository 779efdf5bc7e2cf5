"""Recorded runs, written and read again."""

import pytest

from rllib_distill.results import RecordedRun
from rllib_distill.results.tables import CurveOptions, CurveTable
from tests.results.recorded import save


@pytest.fixture
def read(tmp_path):
    """Returns a function that writes runs and reads them again, in the order of their names."""

    def read(**runs):
        save(tmp_path, **runs)
        return [RecordedRun.read(tmp_path / f"{name}.json") for name in sorted(runs)]

    return read


@pytest.fixture
def table(read):
    """Returns a function that records runs and compares their curves by their variant."""

    def table(keys=("variant",), options=None, **runs):
        return CurveTable(read(**runs), keys, options or CurveOptions())

    return table
