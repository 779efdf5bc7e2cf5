"""A memory of whole sequences."""

import numpy as np
import pytest
import torch

from rllib_distill.replay.batch import Trajectories
from rllib_distill.replay.fragment import Fragment
from rllib_distill.replay.replay_buffer import SequenceReplay
from tests.replay.test_trajectories import SPACES
from tests.replay.worlds import NEXT_STEP, SAME_STEP, World

MODES = pytest.mark.parametrize("mode", [SAME_STEP, NEXT_STEP])
STEPS, B = 5, 3


def make(capacity=200, seed=7):
    return SequenceReplay(("a", "b"), capacity=capacity, spaces=SPACES, seed=seed)


def fill(replay, mode=SAME_STEP, fragments=8, log_probs=False):
    """Returns task -> the fragments that were added."""
    added = {}
    for task in replay.tasks:
        world = World(mode, task=task, num_envs=B, seed=ord(task))
        added[task] = [world.play(STEPS)[0] for _ in range(fragments)]
        for fragment in added[task]:
            # The worlds' label belongs to an observation alone, and so to a row.
            fragment.labels = {"behaviour_log_probs": fragment.labels["label"][..., 0]} if log_probs else {}
            replay.add(fragment)
    return added


def parts(trajectories, i, b):
    """All that is known of one sequence, hashable; final observations by the step of time."""
    fields = ("observations", "actions", "rewards", "terminations", "truncations", "valid", "begins")
    columns = [getattr(trajectories, name)[i, :, b] for name in fields]
    if trajectories.behaviour_log_probs is not None:
        columns.append(trajectories.behaviour_log_probs[i, :, b])
    num_envs, final = trajectories.actions.shape[2], set()
    for row, observation, is_valid in zip(
        trajectories.final_rows[i],
        trajectories.final_observations[i],
        trajectories.final_valid[i],
        strict=True,
    ):
        if is_valid and row % num_envs == b:
            final.add((int(row) // num_envs, tuple(observation.tolist())))
    return tuple(str(column.tolist()) for column in columns), frozenset(final)


def sequences_of(fragments):
    """Of one task: what each sequence should look like when it is drawn."""
    made = [Trajectories.of([fragment], SPACES) for fragment in fragments]
    return [parts(trajectories, 0, b) for trajectories in made for b in range(trajectories.actions.shape[2])]


@MODES
@pytest.mark.parametrize("log_probs", [False, True])
def test_that_what_is_drawn_are_whole_sequences_each_as_likely(mode, log_probs):
    replay = make()
    added = fill(replay, mode, log_probs=log_probs)
    expected = {task: sequences_of(fragments) for task, fragments in added.items()}
    size, draws = 40, 30
    counts = {task: dict.fromkeys(sequences, 0) for task, sequences in expected.items()}
    for _ in range(draws):
        drawn = replay.draw(size)
        assert drawn.tasks == ("a", "b") and drawn.observations.shape == (2, STEPS + 1, size, 4)
        assert drawn.state.shape == (2, size, 0)
        assert (drawn.behaviour_log_probs is not None) == log_probs
        for i, task in enumerate(drawn.tasks):
            for b in range(size):
                counts[task][parts(drawn, i, b)] += 1  # a KeyError: such a sequence was never played
    for of_task in counts.values():
        expected_count = size * draws / len(of_task)
        chi_square = sum((count - expected_count) ** 2 / expected_count for count in of_task.values())
        degrees = len(of_task) - 1
        assert abs(chi_square - degrees) < 4 * np.sqrt(2 * degrees)


@MODES
def test_that_a_full_memory_has_the_newest_sequences_only(mode):
    replay = make(capacity=4 * STEPS * B - 1)  # rounded up to 12 sequences: 4 fragments
    added = fill(replay, mode, fragments=11)
    assert len(replay) == replay.num_transitions("a") == 4 * STEPS * B
    for i, task in enumerate(replay.tasks):
        newest = set(sequences_of(added[task][-4:]))
        drawn = replay.draw(200)
        assert {parts(drawn, i, b) for b in range(200)} == newest


def test_that_a_capacity_that_fragments_do_not_divide_is_kept(capacity=65):
    replay = make(capacity=capacity)  # 13 sequences of 5 steps; a fragment has 3
    added = fill(replay, fragments=6)
    newest = set(sequences_of(added["a"])[-13:])
    drawn = replay.draw(300)
    assert {parts(drawn, 0, b) for b in range(300)} == newest


def test_that_it_counts_as_the_other_memory_does():
    replay = make()
    assert len(replay) == replay.num_transitions("a") == 0
    replay.add(World(task="a").play(STEPS)[0])
    assert (replay.num_transitions("a"), len(replay)) == (STEPS * B, 0)
    replay.add(World(task="b", num_envs=2).play(STEPS)[0])
    assert len(replay) == STEPS * 2


def test_that_a_fragment_larger_than_the_memory_still_fits():
    replay = make(capacity=1)
    fill(replay, fragments=2)
    assert len(replay) == STEPS * B


def test_that_stacked_frames_are_stored_once_and_drawn_stacked():
    rng = np.random.default_rng(0)
    replay = SequenceReplay(("a",), capacity=100, spaces=SPACES, seed=0)
    fragment = Fragment.empty("a", 0, 0, STEPS, np.zeros((B, 1, 4), np.uint8), frame_stack=4)
    fragment.frames[:] = rng.integers(1, 255, fragment.frames.shape)
    fragment.ages[:] = rng.integers(0, 4, fragment.ages.shape)
    fragment.actions[:], fragment.rewards[:] = 0, np.arange(B)
    replay.add(fragment)
    drawn = replay.draw(20)
    for b in range(20):
        env = int(drawn.rewards[0, 0, b])
        np.testing.assert_array_equal(drawn.observations[0, :, b], fragment.observations[:, env])


def is_same(first, second):
    return all(
        name == "tasks" or value is None or torch.equal(value, getattr(second, name))
        for name, value in vars(first).items()
    )


@MODES
def test_that_a_saved_memory_goes_on_exactly_where_it_stood(tmp_path, mode):
    for fragments in (3, 11):  # not full, and full
        replay = make(capacity=90)
        fill(replay, mode, fragments)
        replay.draw(3)
        replay.save(tmp_path / "replay.pkl")
        restored = make(capacity=90, seed=99)
        restored.load(tmp_path / "replay.pkl")
        assert len(restored) == len(replay)
        for _ in range(2):
            assert is_same(replay.draw(10), restored.draw(10))
            later = World(mode, task="a", seed=5, source=1).play(STEPS)[0]
            later.labels = {}
            replay.add(later)
            restored.add(later)


def test_that_seeds_decide_what_is_drawn():
    replays = [make(seed=seed) for seed in (1, 1, 2)]
    for replay in replays:
        fill(replay)
    first, same, other = (replay.draw(10) for replay in replays)
    assert is_same(first, same) and not is_same(first, other)


@pytest.mark.parametrize("change", ["capacity", "steps", "dtype"])
def test_that_a_restored_task_starts_empty_where_sizes_changed(tmp_path, change):
    replay = make()
    fill(replay)
    replay.save(tmp_path / "replay.pkl")
    restored = make(capacity=90 if change == "capacity" else 200)
    restored.load(tmp_path / "replay.pkl")
    world = World(task="a", dtype=np.float32 if change == "dtype" else np.uint8)
    steps = 4 if change == "steps" else STEPS
    fragment = world.play(steps)[0]
    fragment.labels = {}
    restored.add(fragment)
    assert restored.num_transitions("a") == steps * B
