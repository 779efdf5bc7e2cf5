"""A replay buffer of several tasks that several env runners feed, and what of it a file keeps."""

import pickle
from copy import deepcopy

import numpy as np
import pytest

from rllib_distill.errors import DistillError
from rllib_distill.replay.fragment import Fragment
from rllib_distill.replay.replay_buffer import ReplayBuffer
from tests.replay.worlds import COLUMNS, NEXT_STEP, SAME_STEP, STEP_COLUMNS, World, check_rows, n_step_of

MODES = pytest.mark.parametrize("mode", [SAME_STEP, NEXT_STEP])
GAPS = pytest.mark.parametrize("gap", ["no gap", "reset", "lost fragment"])


def leave_gap(world, gap):
    """What comes next does not follow on; returns the slots from which no transition starts then."""
    if gap == "no gap":
        return []
    world.reset() if gap == "reset" else world.play(4)
    return [[None] * world.num_envs] * world.frame_stack


def filled(mode=SAME_STEP, *, runners=2, capacity=120, fragments=4, seed=7, n_step=2, **options):
    """A buffer of two tasks, and the transitions it should hold of each."""
    replay = ReplayBuffer(("a", "b"), capacity=capacity, num_env_runners=runners, n_step=n_step, seed=seed)
    held = {}
    for task in replay.tasks:
        held[task] = []
        for runner in range(runners):
            world = World(mode, env_runner_index=runner, task=task, seed=ord(task), **options)
            slots = []
            for _ in range(fragments):
                fragment, new_slots = world.play(11)
                replay.add(fragment)
                slots += new_slots
            kept = slots[-(capacity // runners // 3) :]
            held[task] += [t for slot in kept for t in slot if t is not None]
    return replay, held


@MODES
@GAPS
@pytest.mark.parametrize("frame_stack", [1, 3])
@pytest.mark.parametrize("runners", [1, 3])
@pytest.mark.parametrize("rows", [2, 13])
def test_that_rows_are_the_newest_transitions_of_the_asked_task_from_all_sources(
    tmp_path, mode, gap, frame_stack, runners, rows
):
    replay = ReplayBuffer(("a", "b"), capacity=3 * rows * runners, num_env_runners=runners, seed=0)
    options = {"mode": mode, "frame_stack": frame_stack, "loses_lives": True}
    sources = [(task, runner) for task in "ab" for runner in range(runners)]
    worlds = [World(env_runner_index=i, task=task, seed=ord(task), **options) for task, i in sources]
    played = {world: [[None] * 3] * (frame_stack - 1) for world in worlds}
    for i in range(20):
        for world, slots in played.items():
            slots += leave_gap(world, gap) if i % 3 == 2 else []
            fragment, new_slots = world.play(int(world.rng.integers(1, 12)))  # often more than there is room
            replay.add(fragment)
            slots += new_slots
        task = "ab"[i % 2]
        of_task = [slots for world, slots in played.items() if world.task == task]
        held = [t for slots in of_task for slot in slots[-rows:] for t in slot if t is not None]
        counts = check_rows(replay.sample_rows(task, 12 * len(held), COLUMNS), held)
        assert (counts > 0).mean() > 0.95
        assert replay.num_transitions(task) == sum(3 * min(rows, len(slots)) for slots in of_task)
    replay.save(tmp_path / "replay.pkl")  # frames besides the columns: no more than needed
    rings = pickle.loads((tmp_path / "replay.pkl").read_bytes())["rings"]
    kept = sum(len(ring["final_observations"]) for of_task in rings.values() for ring in of_task.values())
    stored = [t for slots in played.values() for slot in slots[1 - rows - frame_stack :] for t in slot if t]
    assert kept == (sum(t.truncated for t in stored) if mode == SAME_STEP else 0)


@pytest.mark.parametrize(
    ("mode", "steps"), [(SAME_STEP, (40, 8)), (NEXT_STEP, (40,))], ids=["unequally filled", "next step"]
)
def test_that_drawing_is_uniform(mode, steps):
    replay = ReplayBuffer(["a"], capacity=300, num_env_runners=len(steps), seed=0)
    held = []
    for runner, steps_of_runner in enumerate(steps):
        fragment, slots = World(mode, env_runner_index=runner, task="a").play(steps_of_runner)
        replay.add(fragment)
        held += [t for slot in slots for t in slot if t is not None]
    counts = check_rows(replay.sample_rows("a", 200 * len(held), COLUMNS), held)
    chi_square, degrees = ((counts - 200.0) ** 2 / 200.0).sum(), len(held) - 1
    assert abs(chi_square - degrees) < 4 * np.sqrt(2 * degrees)


@pytest.mark.parametrize("dtype", [np.bool_, np.uint8, np.float32, np.float64])
def test_that_observations_keep_their_dtype_and_shape(dtype):
    replay = ReplayBuffer(["a"], capacity=24, seed=0)
    fragment, slots = World(dtype=dtype, task="a").play(5)
    replay.add(fragment)
    rows = replay.sample_rows("a", 50, COLUMNS)
    assert rows["observations"].dtype == rows["next_observations"].dtype == dtype
    assert replay.observation_shape("a") == fragment.observations.shape[2:]
    check_rows(rows, [t for slot in slots for t in slot])


def test_that_a_fragment_is_copied_and_stays_its_owners():
    replay = ReplayBuffer(["a"], capacity=54, seed=0)
    fragment, slots = World(task="a", state_size=1).play(18)
    replay.add(fragment)
    assert fragment.final_observations
    held, state = deepcopy([t for slot in slots for t in slot]), fragment.state.copy()
    for array in (fragment.frames, fragment.columns["label"], *fragment.final_observations.values()):
        array[...] = 0
    fragment.is_first[...] = fragment.state[...] = 0
    check_rows(replay.sample_rows("a", 300, COLUMNS), held)
    drawn, _ = replay.sample_sequences("a", 3, 18, ["actions"])
    assert drawn["is_first"][0].all() and (np.sort(drawn["state"], 0) == np.sort(state, 0)).all()


@pytest.mark.parametrize("runners", [1, 2])
def test_that_rows_go_into_given_arrays(runners):
    replay, held = filled(runners=runners)
    out = {"observations": np.zeros((9, 3), np.uint8), "next_observations": np.zeros((9, 3), np.uint8)}
    rows = replay.sample_rows("a", 9, COLUMNS, out=out)
    assert all(rows[name] is out[name] for name in out)
    check_rows(rows, held["a"])


@MODES
@GAPS
@pytest.mark.parametrize("runners", [1, 3])
@pytest.mark.parametrize(("n_step", "steps"), [(1, 2), (5, 2), (5, 30)])
def test_that_rows_of_several_steps_go_on_over_fragments_and_end_with_what_is_known(
    mode, gap, runners, n_step, steps
):
    capacity = 120 * runners
    replay = ReplayBuffer(["a"], capacity=capacity, num_env_runners=runners, n_step=n_step, gamma=0.9, seed=0)
    expected = {}
    for runner in range(runners):
        world, slots = World(mode, env_runner_index=runner, task="a", loses_lives=True), []
        for i in range(60 // steps):
            if i and i % (30 // steps) == 0:
                slots += leave_gap(world, gap)
            fragment, new_slots = world.play(steps)
            replay.add(fragment)
            slots += new_slots
        expected |= n_step_of(slots, n_step, 0.9)
    out = {"next_observations": np.zeros((600, 3), np.uint8)}
    columns = ("observations", "next_observations", "actions", "rewards", "discounts")
    rows = replay.sample_rows("a", 600, columns, out=out)
    assert rows["next_observations"] is out["next_observations"] and rows["discounts"].dtype == np.float32
    lengths = set()
    for i, start in enumerate(rows["observations"]):
        total, discount, transition, length = expected[start.tobytes()]
        lengths.add(length)
        assert rows["rewards"][i] == pytest.approx(total, abs=1e-5)
        assert rows["discounts"][i] == pytest.approx(discount)
        if not transition.terminated:
            assert (rows["next_observations"][i] == transition.next_observation).all()
    assert lengths == set(range(1, n_step + 1))


@pytest.mark.parametrize("num_envs", [1, 7, 24, 100])
@pytest.mark.parametrize("runners", [1, 3])
def test_that_a_full_memory_holds_at_least_its_capacity_and_hardly_more(num_envs, runners):
    # Else a buffer of just `num_steps_sampled_before_learning_starts` would never be full enough to start.
    replay = ReplayBuffer(["a"], capacity=1000, num_env_runners=runners, seed=0)
    for runner in range(runners):
        replay.add(Fragment.empty("a", runner, 0, 1100, np.zeros((num_envs, 1))))
    assert 1000 <= replay.num_transitions("a") < 1000 + num_envs * runners
    assert len(replay) == replay.num_transitions("a")


def test_that_its_length_is_that_of_the_task_that_has_the_fewest():
    replay = ReplayBuffer(("a", "b"), capacity=100, seed=0)
    replay.add(World(task="a").play(5)[0])
    assert (replay.num_transitions("a"), len(replay)) == (15, 0)
    replay.add(World(task="b").play(2)[0])
    assert len(replay) == 6


@pytest.mark.parametrize("runners", [1, 2])
@pytest.mark.parametrize("options", [{"dtype": np.bool_}, {}, {"frame_stack": 3}], ids=str)
@pytest.mark.parametrize("fragments", [2, 5], ids=["before it wraps", "after it wrapped"])
def test_that_a_saved_buffer_goes_on_exactly_where_it_stood(tmp_path, runners, options, fragments):
    options = {**options, "state_size": 2, "loses_lives": True}
    replay, held = filled(runners=runners, fragments=fragments, **options)
    replay.sample_rows("a", 17, COLUMNS)
    replay.sample_sequences("a", 3, 4, STEP_COLUMNS)
    replay.save(tmp_path / "replay.pkl")
    restored = ReplayBuffer(("a", "b"), capacity=120, num_env_runners=runners, n_step=2, seed=99)
    restored.load(tmp_path / "replay.pkl")
    assert restored.num_transitions("a") == replay.num_transitions("a")
    assert restored.num_sequences(6) == replay.num_sequences(6) > 0
    following, anew = World(task="a", seed=ord("a"), **options), World(task="a", seed=8, **options)
    for _ in range(fragments):
        following.play(11)
    for i in range(20):
        for task in ("a", "b"):
            rows = [r.sample_rows(task, 50, (*COLUMNS, "discounts")) for r in (replay, restored)]
            check_same(*rows)
            drawn = [
                r.sample_sequences(task, 5, 6, ("observations", *STEP_COLUMNS)) for r in (replay, restored)
            ]
            for one, other in zip(*drawn, strict=True):
                check_same(one, other)
        if i % 5 == 4:
            check_rows(restored.sample_rows("b", 100, COLUMNS), held["b"])
            replay.sample_rows("b", 100, COLUMNS)
            fragment = (anew if i == 14 else following).play(7)[0]
            replay.add(fragment)
            restored.add(fragment)


def check_same(one, other):
    assert one.keys() == other.keys()
    for name, values in one.items():
        assert values.dtype == other[name].dtype, name
        np.testing.assert_array_equal(values, other[name])


@pytest.mark.parametrize(
    "draw",
    [
        lambda replay: replay.sample_rows("a", 50, ["rewards"])["rewards"],
        lambda replay: replay.sample_sequences("a", 10, 5, ["rewards"])[0]["rewards"],
    ],
    ids=["rows", "sequences"],
)
def test_that_seeds_decide_what_is_drawn(draw):
    drawn = [draw(filled(seed=seed)[0]) for seed in (1, 1, 2)]
    assert (drawn[0] == drawn[1]).all() and (drawn[0] != drawn[2]).any()


def test_that_boolean_frames_are_saved_in_an_eighth_of_their_memory(tmp_path):
    replay = ReplayBuffer(["a"], capacity=300, seed=0)
    replay.add(World(dtype=np.bool_, task="a").play(40)[0])
    replay.save(tmp_path / "replay.pkl")
    ring = pickle.loads((tmp_path / "replay.pkl").read_bytes())["rings"]["a"][0]
    packed, shape = ring["columns"]["frames"]
    assert shape == (41, 3, 25) and packed.nbytes == -(-41 * 3 * 25 // 8)


@pytest.mark.parametrize("change", ["capacity", "num_envs", "dtype", "state_size"])
def test_that_a_restored_task_starts_empty_where_sizes_changed(tmp_path, change):
    replay, _ = filled(runners=1)
    replay.save(tmp_path / "replay.pkl")
    restored = ReplayBuffer(("a", "b"), capacity=90 if change == "capacity" else 120, seed=0)
    restored.load(tmp_path / "replay.pkl")
    changed = {"num_envs": 4, "dtype": np.float32, "state_size": 2}
    options = {} if change == "capacity" else {change: changed[change]}
    fragment, slots = World(task="a", **options).play(5)
    restored.add(fragment)
    held = [t for slot in slots for t in slot]
    assert restored.num_transitions("a") == len(held)
    check_rows(restored.sample_rows("a", 50, COLUMNS), held)


def test_that_what_other_runners_sampled_goes_when_todays_need_the_room(tmp_path):
    replay, _ = filled(runners=2)  # 0 and 1
    replay.save(tmp_path / "replay.pkl")
    restored = ReplayBuffer(("a", "b"), capacity=120, num_env_runners=2, seed=0)
    restored.load(tmp_path / "replay.pkl")
    restored.add(World(task="a", env_runner_index=1).play(5)[0])
    restored.add(World(task="a", env_runner_index=2).play(5)[0])
    drawn = restored.sample_rows("a", 500, ["observations"])["observations"]
    assert set((drawn[:, 0] // 16).tolist()) == {1, 2}
    kept = replay.num_transitions("a") // 2
    assert restored.num_transitions("a") == min(kept + 15, 60) + 15


def test_that_a_buffer_of_an_older_version_is_refused_with_the_way_out(tmp_path):
    replay, _ = filled(runners=1)
    replay.save(tmp_path / "replay.pkl")
    state = pickle.loads((tmp_path / "replay.pkl").read_bytes())
    del state["format"]  # which older ones did not have
    (tmp_path / "replay.pkl").write_bytes(pickle.dumps(state))
    with pytest.raises(DistillError, match=r"older version.*Delete the checkpoint's folder 'replay'"):
        ReplayBuffer(("a", "b"), capacity=120, seed=0).load(tmp_path / "replay.pkl")
