"""Files of recorded runs, and curves over env steps: their means, and what they reach."""

import json
import math
from pathlib import Path

import pandas as pd
import pytest

from rllib_distill.errors import DistillError
from rllib_distill.files import json_text
from rllib_distill.results import RecordedRun
from rllib_distill.results.runs import first_reach, mean_return
from tests.results.recorded import distral, run, save, score

ROOT = Path(__file__).parents[2]


def curve(steps, values):
    return pd.Series(values, steps, dtype=float)


def test_that_a_record_has_all_but_the_returns(read):
    content = run({"pong": (1, 10, 9)}, loss="kl")
    with_returns = json.loads(json.dumps(content))
    for of_policy in with_returns["tasks"]["pong"].values():
        of_policy["returns"] = [1.0, 2.0]
    with_returns["tasks"]["pong"]["student_share"] = content["tasks"]["pong"]["student_share"] = 0.9
    (recorded,) = read(a=with_returns)
    assert recorded.compact() == json_text(content) + "\n"


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("{", "not valid JSON"),
        ("[]", "format None"),
        ('{"format": "rllib_distill.scores/7"}', r"scores/7'; it must be 'rllib_distill\.scores/1'"),
        (
            '{"format": "rllib_distill.scores/1", "tasks": {"pong": {}}}',
            "a.json: the key 'random' is missing",
        ),
    ],
)
def test_that_what_is_no_record_is_refused(text, match, tmp_path):
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(DistillError, match=match):
        RecordedRun.read(path)
    with pytest.raises(DistillError, match="Cannot read"):
        RecordedRun.read(tmp_path / "gone.json")


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"algorithm": 5}, r"a\.json: algorithm is 5; it must be text"),
        ({"speed": 1}, r"unknown key 'speed'"),
        (
            {"tasks": {"pong": {"random": score(1)}}},
            r"tasks\.pong is .*; it must have the scores of a student",
        ),
    ],
)
def test_that_a_record_with_something_else_in_it_is_refused(change, match, tmp_path):
    save(tmp_path, a=run({"pong": (1, 2)}) | change)
    with pytest.raises(DistillError, match=match):
        RecordedRun.read(tmp_path / "a.json")


def test_that_every_kept_record_can_be_read_and_is_written_as_it_is():
    for path in sorted((ROOT / "docs" / "recorded").rglob("*.json")):
        assert RecordedRun.read(path).compact() == path.read_text()


def test_that_the_mean_is_the_area_of_trapezoids_level_outside_of_the_points():
    line = curve([10, 20, 40], [1, 3, 0])
    assert mean_return(line, 10, 20) == 2.0
    assert mean_return(line, 10, 40) == pytest.approx((20 + 30) / 30)
    assert mean_return(line, 0, 50) == pytest.approx(
        (10 + 20 + 30 + 0) / 50
    )  # 1 before the first, 0 after the last
    assert mean_return(line, 15, 30) == pytest.approx((5 * 2.5 + 10 * 2.25) / 15)  # 2 at 15, 1.5 at 30
    assert mean_return(curve([10], [4]), 0, 100) == 4.0


def test_that_the_mean_over_tasks_has_the_points_of_all(read):
    (run,) = read(x=distral("a3c", [0, 5, 10, 20], a=[0, None, 10, 10], b=[None, 1, 1, None]))
    assert run.mean_curve.to_dict() == {0: 0.5, 5: 3.0, 10: 5.5, 20: 5.5}


def test_that_a_level_is_reached_by_the_mean_of_five_points():
    line = curve(range(10, 90, 10), [0, 9, 0, 1, 0, 5, 6, 7])  # means from the fifth on: 2, 3, 2.4, 3.8
    assert [first_reach(line, level, 80) for level in (2.0, 2.1, 3.0, 3.1)] == [50, 60, 60, 80]
    assert first_reach(line, 3.1, 79) == first_reach(line, 4.0, 80) == math.inf
    assert first_reach(curve([10, 20], [1, 3]), 2.0, 20) == 20  # of fewer points: all
