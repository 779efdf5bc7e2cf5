"""A memory per task, shared by several sources."""

import pickle

import numpy as np
import pytest

from rllib_distill.errors import DistillError
from rllib_distill.replay.fragment import Fragment
from rllib_distill.replay.replay_buffer import TaskReplay
from tests.replay.worlds import COLUMNS, NEXT_STEP, SAME_STEP, World, check_rows


def filled(mode=SAME_STEP, *, sources=2, capacity=120, fragments=4, seed=7, dtype=np.uint8):
    """A memory of two tasks, and the transitions it should hold of each."""
    replay = TaskReplay(("a", "b"), capacity=capacity, num_sources=sources, seed=seed)
    held = {}
    for task in replay.tasks:
        held[task] = []
        for source in range(sources):
            world = World(mode, source=source, task=task, seed=ord(task), dtype=dtype)
            slots = []
            for _ in range(fragments):
                fragment, new_slots = world.play(11)
                replay.add(fragment)
                slots += new_slots
            kept = slots[-(capacity // sources // 3) :]
            held[task] += [t for slot in kept for t in slot if t is not None]
    return replay, held


@pytest.mark.parametrize("mode", [SAME_STEP, NEXT_STEP])
@pytest.mark.parametrize("sources", [1, 2, 4])
def test_that_rows_are_transitions_of_the_asked_task_from_all_sources(mode, sources):
    replay, held = filled(mode, sources=sources)
    for task in ("a", "b"):
        assert (check_rows(replay.sample(task, 5000, COLUMNS), held[task]) > 0).all()


def test_that_sampling_is_uniform_over_sources_that_are_filled_unequally():
    replay = TaskReplay(["a"], capacity=300, num_sources=2, seed=0)
    held = []
    for source, steps in ((0, 40), (1, 8)):
        fragment, slots = World(source=source, task="a").play(steps)
        replay.add(fragment)
        held += [t for slot in slots for t in slot]
    counts = check_rows(replay.sample("a", 200 * len(held), COLUMNS), held)
    chi_square, degrees = ((counts - 200.0) ** 2 / 200.0).sum(), len(held) - 1
    assert abs(chi_square - degrees) < 4 * np.sqrt(2 * degrees)


@pytest.mark.parametrize("sources", [1, 2])
def test_that_rows_go_into_given_arrays(sources):
    replay, held = filled(sources=sources)
    out = {"observations": np.zeros((9, 3), np.uint8), "next_observations": np.zeros((9, 3), np.uint8)}
    rows = replay.sample("a", 9, COLUMNS, out=out)
    assert all(rows[name] is out[name] for name in out)
    check_rows(rows, held["a"])


@pytest.mark.parametrize("num_envs", [1, 7, 24, 100])
@pytest.mark.parametrize("sources", [1, 3])
def test_that_a_full_memory_holds_at_least_its_capacity_and_hardly_more(num_envs, sources):
    # Else a memory of just `num_steps_sampled_before_learning_starts` would never be full enough to start.
    replay = TaskReplay(["a"], capacity=1000, num_sources=sources, seed=0)
    for source in range(sources):
        replay.add(Fragment.empty("a", source, 0, 1100, np.zeros((num_envs, 1))))
    assert 1000 <= replay.num_transitions("a") < 1000 + num_envs * sources
    assert len(replay) == replay.num_transitions("a")


def test_that_its_length_is_that_of_the_task_that_has_the_fewest():
    replay = TaskReplay(("a", "b"), capacity=100, seed=0)
    replay.add(World(task="a").play(5)[0])
    assert (replay.num_transitions("a"), len(replay)) == (15, 0)
    replay.add(World(task="b").play(2)[0])
    assert len(replay) == 6


@pytest.mark.parametrize("sources", [1, 2])
@pytest.mark.parametrize("dtype", [np.bool_, np.uint8])
def test_that_a_saved_memory_goes_on_exactly_where_it_stood(tmp_path, sources, dtype):
    replay, held = filled(sources=sources, dtype=dtype)
    replay.sample("a", 17, COLUMNS)
    replay.save(tmp_path / "replay.pkl")
    restored = TaskReplay(("a", "b"), capacity=120, num_sources=sources, seed=99)
    restored.load(tmp_path / "replay.pkl")
    for task in ("a", "b", "a"):
        expected, rows = replay.sample(task, 100, COLUMNS), restored.sample(task, 100, COLUMNS)
        assert all((expected[name] == rows[name]).all() for name in COLUMNS)
        check_rows(rows, held[task])
    assert restored.num_transitions("a") == replay.num_transitions("a")


def test_that_seeds_decide_what_is_drawn():
    rows = [filled(seed=seed)[0].sample("a", 50, ["rewards"])["rewards"] for seed in (1, 1, 2)]
    assert (rows[0] == rows[1]).all()
    assert (rows[0] != rows[2]).any()


@pytest.mark.parametrize("change", ["capacity", "num_envs", "dtype"])
def test_that_a_restored_task_starts_empty_where_sizes_changed(tmp_path, change):
    replay, _ = filled(sources=1)
    replay.save(tmp_path / "replay.pkl")
    restored = TaskReplay(("a", "b"), capacity=90 if change == "capacity" else 120, seed=0)
    restored.load(tmp_path / "replay.pkl")
    options = {"num_envs": 4} if change == "num_envs" else {"dtype": np.float32} if change == "dtype" else {}
    fragment, slots = World(task="a", **options).play(5)
    restored.add(fragment)
    held = [t for slot in slots for t in slot]
    assert restored.num_transitions("a") == len(held)
    check_rows(restored.sample("a", 50, COLUMNS), held)


def test_that_what_other_runners_sampled_goes_when_todays_need_the_room(tmp_path):
    replay, _ = filled(sources=2)  # 0 and 1
    replay.save(tmp_path / "replay.pkl")
    restored = TaskReplay(("a", "b"), capacity=120, num_sources=2, seed=0)
    restored.load(tmp_path / "replay.pkl")
    restored.add(World(task="a", source=1).play(5)[0])
    restored.add(World(task="a", source=2).play(5)[0])
    assert sorted(restored._rings["a"]) == [1, 2]


def test_that_a_memory_of_an_older_version_is_refused_with_the_way_out(tmp_path):
    replay, _ = filled(sources=1)
    replay.save(tmp_path / "replay.pkl")
    state = pickle.loads((tmp_path / "replay.pkl").read_bytes())
    for rings in state["rings"].values():
        for ring in rings.values():
            del ring["frame_stack"]
    (tmp_path / "replay.pkl").write_bytes(pickle.dumps(state))
    with pytest.raises(DistillError, match=r"older version.*Delete the checkpoint's folder 'replay'"):
        TaskReplay(("a", "b"), capacity=120, seed=0).load(tmp_path / "replay.pkl")
