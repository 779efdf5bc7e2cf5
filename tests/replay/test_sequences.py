"""Sequences of a replay buffer against plain lists of what env runners played."""

from collections import Counter
from math import ceil

import numpy as np
import pytest

from rllib_distill.replay import ReplayBuffer
from tests.replay.worlds import (
    NEXT_STEP,
    SAME_STEP,
    STEP_COLUMNS,
    History,
    World,
    check_sequences,
)

MODES = pytest.mark.parametrize("mode", [SAME_STEP, NEXT_STEP])
COLUMNS = ("observations", "valid", *STEP_COLUMNS)
B = 3


def rows_of_ring(capacity, runners=1, frame_stack=1):
    return ceil(ceil(capacity / runners) / B) + frame_stack


def expect(histories, length):
    """First observation -> sequence, of several env runners."""
    found = {}
    for history in histories:
        found |= history.sequences(length)
    return found


def draw_all(replay, task, length, expected):
    """Draws as many sequences as there are, which must be each of the expected ones, once."""
    drawn, finals = replay.sample_sequences(task, len(expected), length, COLUMNS)
    assert Counter(check_sequences(drawn, finals, expected)) == Counter(expected.keys())
    return drawn, finals


@pytest.mark.parametrize(
    ("mode", "frame_stack"), [(SAME_STEP, 1), (NEXT_STEP, 1), (SAME_STEP, 3)], ids=["same", "next", "stacked"]
)
@pytest.mark.parametrize("gaps", ["no gaps", "resets", "lost fragments"])
@pytest.mark.parametrize("runners", [1, 3])
def test_that_sequences_are_what_was_played_over_fragments_gaps_and_the_rings_end(
    mode, frame_stack, gaps, runners
):
    capacity, rng = 90 * runners, np.random.default_rng(0)
    options = {"task": "a", "loses_lives": True, "state_size": 2, "frame_stack": frame_stack}
    worlds = [World(mode, env_runner_index=i, **options) for i in range(runners)]
    histories = [History(rows_of_ring(capacity, runners, frame_stack)) for _ in worlds]
    replay = ReplayBuffer(["a"], capacity=capacity, num_env_runners=runners, seed=1)
    seen = Counter()
    for i in range(16):
        for world, history in zip(worlds, histories, strict=True):
            if i % 3 == 2 and gaps != "no gaps":
                world.reset() if gaps == "resets" else world.play(4)
            fragment, _ = world.play(
                int(rng.integers(1, 9)) if i != 12 else 40
            )  # once more than there is room
            replay.add(fragment)
            history.add(fragment)
        for length in (1, 3, 8):
            expected = expect(histories, length)
            assert replay.num_sequences(length) == len(expected)
            if not expected:
                seen["none"] += 1
                continue
            drawn, finals = draw_all(replay, "a", length, expected)
            assert drawn["observations"].shape[:2] == drawn["is_first"].shape == (length + 1, len(expected))
            assert drawn["state"].shape == (len(expected), 2)
            seen["final"] += len(finals)
            seen["goes on after a gap"] += int((~drawn["valid"][:-1] & drawn["valid"][1:]).sum())
            seen["state in mid-episode"] += int((~drawn["is_first"][0]).sum())
    assert seen["state in mid-episode"] > 100 and seen["none"] > 0
    assert (seen["final"] > 100) == (mode == SAME_STEP)
    assert (seen["goes on after a gap"] > 0) == (gaps != "no gaps" or mode == NEXT_STEP)


def test_that_a_state_is_forgotten_after_a_gap_but_not_where_a_sequence_starts_behind_it():
    world = World(task="a", state_size=2, num_envs=1, seed=5)
    while True:  # until a fragment begins in the middle of an episode
        first, _ = world.play(3)
        world.play(3)  # another learner got it
        second, _ = world.play(3)
        if not second.is_first[0, 0]:
            break
    replay = ReplayBuffer(["a"], capacity=100, seed=0)
    replay.add(first)
    replay.add(second)
    drawn, _ = replay.sample_sequences("a", 1, 7, ["observations"])
    assert drawn["is_first"][4].tolist() == [True]  # a row for the observation that nothing follows
    assert (drawn["observations"][4] == second.observations[0]).all()
    drawn, _ = replay.sample_sequences("a", 2, 3, ["observations"])
    of_second = (drawn["observations"][0] == second.observations[0]).all(axis=-1)
    assert drawn["is_first"][0, of_second].tolist() == [False]
    assert (drawn["state"][of_second] == second.state).all()


def test_that_the_row_before_a_gap_shows_nothing_of_what_lay_there_before():
    """Its truncations are those of the row that was overwritten, and so would its final observations be."""
    replay, finals_seen = ReplayBuffer(["a"], capacity=12, seed=0), 0
    world, history = World(task="a", num_envs=1), History(13)
    for _ in range(60):
        fragment, _ = world.play(3)
        replay.add(fragment)
        history.add(fragment)
        world.reset()
        _, finals = replay.sample_sequences("a", 1, 3, COLUMNS)
        finals_seen += len(finals)
        expected = history.sequences(5)
        if expected:
            drawn, finals = replay.sample_sequences("a", len(expected), 5, COLUMNS)
            check_sequences(drawn, finals, expected)
    assert finals_seen > 10


@MODES
@pytest.mark.parametrize("runners", [1, 2])
def test_that_each_sequence_is_as_likely_and_none_comes_twice_while_others_wait(mode, runners):
    replay = ReplayBuffer(["a"], capacity=300, num_env_runners=runners, seed=7)
    histories = [History(rows_of_ring(300, runners)) for _ in range(runners)]
    for i, history in enumerate(histories):
        world = World(mode, env_runner_index=i, task="a")
        for _ in range(8 if i == 0 else 3):  # and they are filled unequally
            fragment, _ = world.play(5)
            replay.add(fragment)
            history.add(fragment)
    expected, counts = expect(histories, 5), Counter()
    size, draws = 10, 200
    assert len(expected) == B * (8 if runners == 1 else 11)
    for _ in range(draws):
        keys = check_sequences(*replay.sample_sequences("a", size, 5, COLUMNS), expected)
        assert len(set(keys)) == size
        counts.update(keys)
    expected_count = size * draws / len(expected)
    chi_square = sum((counts[key] - expected_count) ** 2 / expected_count for key in expected)
    degrees = len(expected) - 1
    assert chi_square < degrees + 4 * np.sqrt(2 * degrees)  # less than of draws that may come twice
    more = check_sequences(*replay.sample_sequences("a", 500, 5, COLUMNS), expected)
    assert set(more) == set(expected)


@MODES
@pytest.mark.parametrize("capacity", [60, 65])  # 4 fragments, and not a whole number of them
def test_that_a_full_buffer_has_the_newest_sequences_only(mode, capacity):
    replay, history = ReplayBuffer(["a"], capacity=capacity, seed=0), History(rows_of_ring(capacity))
    world = World(mode, task="a")
    for _ in range(11):
        fragment, _ = world.play(5)
        replay.add(fragment)
        history.add(fragment)
    assert replay.num_sequences(5) == 4 * B
    draw_all(replay, "a", 5, history.sequences(5))
    assert set(history.sequences(5)) == {
        observation.tobytes()
        for fragment in list(history.fragments.values())[-4:]
        for observation in fragment.observations[0]
    }


def test_that_a_fragment_larger_than_the_buffer_leaves_rows_and_no_sequences():
    replay = ReplayBuffer(["a"], capacity=1, seed=0)
    replay.add(World(task="a").play(5)[0])
    assert len(replay) == B and replay.num_sequences(1) == 0
    assert replay.sample_rows("a", 5, ["rewards"])["rewards"].shape == (5,)


def test_that_their_number_is_that_of_the_task_that_has_the_fewest():
    replay = ReplayBuffer(("a", "b"), capacity=100, seed=0)
    world = World(task="a")
    replay.add(world.play(5)[0])
    assert replay.num_sequences(1) == 0
    replay.add(World(task="b", num_envs=2).play(4)[0])
    assert [replay.num_sequences(length) for length in (4, 5)] == [2, 0]
    replay.add(world.play(5)[0])
    assert [replay.num_sequences(length) for length in (4, 5)] == [2, 0]


@pytest.mark.parametrize("runners", [1, 2])
def test_that_sequences_go_into_given_arrays(runners):
    replay = ReplayBuffer(["a"], capacity=120, num_env_runners=runners, seed=0)
    histories = [History(rows_of_ring(120, runners)) for _ in range(runners)]
    for i, history in enumerate(histories):
        fragment, _ = World(env_runner_index=i, task="a", state_size=1).play(6)
        replay.add(fragment)
        history.add(fragment)
    expected = expect(histories, 6)
    for size in (1, 9):
        out = {"observations": np.zeros((7, size, 3), np.uint8), "is_first": np.zeros((7, size), np.bool_)}
        drawn, finals = replay.sample_sequences("a", size, 6, (name for name in COLUMNS), out=out)
        assert all(drawn[name] is out[name] for name in out)
        check_sequences(drawn, finals, expected)


def test_that_labels_of_any_shape_go_along():
    replay = ReplayBuffer(["a"], capacity=100, seed=0)
    fragment, _ = World(task="a").play(4)
    fragment.columns["expert_features"] = np.random.default_rng(0).normal(size=(4, B, 2, 5))
    replay.add(fragment)
    drawn, _ = replay.sample_sequences("a", B, 4, ["observations", "expert_features"])
    for i in range(B):
        (b,) = np.flatnonzero((fragment.observations[0] == drawn["observations"][0, i]).all(-1))
        np.testing.assert_array_equal(
            drawn["expert_features"][:, i], fragment.columns["expert_features"][:, b]
        )
