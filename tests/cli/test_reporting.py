"""What is said of a run beside the runs that were recorded of its file."""

import pytest

from rllib_distill.cli.evaluate import beside_expected
from rllib_distill.cli.experiment import TrainOptions, changed


@pytest.mark.parametrize(
    ("mean", "said"),
    [(0.92, "0.920, within that"), (0.85, "0.850, below that"), (1.1, "above"), (None, "none, below that")],
)
def test_that_a_run_is_compared_with_what_is_expected(mean, said):
    line = beside_expected(mean, (0.9, 1.0))
    assert line.startswith("expected of this file: 0.90 to 1.00")
    assert said in line


@pytest.mark.parametrize(
    "flags",
    [
        {"stop": {"training_iteration": 1}},
        {"config": {"tau": 1.0}},
        {"restore": "checkpoint"},
        {"scheduler": "ASHA"},
        {},
    ],
)
def test_that_nothing_is_expected_of_a_changed_file(flags):
    none = dict.fromkeys(TrainOptions.__dataclass_fields__)
    options = TrainOptions(**{**none, "checkpoint_config": {}, "scheduler": "FIFO", **flags})
    spec = {"run": "ActorMimic", "report": {"episodes": 3, "expected": [0.9, 1.0]}}
    report = changed(spec, options)["report"]
    assert report["episodes"] == 3 and ("expected" in report) == (not flags)
