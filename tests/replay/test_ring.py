"""The rows of a ring against plain Python lists of transitions."""

import numpy as np
import pytest

from rllib_distill.replay.replay_buffer import Ring
from tests.replay.worlds import COLUMNS, NEXT_STEP, SAME_STEP, World, check_rows, n_step_of

MODES = pytest.mark.parametrize("mode", [SAME_STEP, NEXT_STEP])


def transitions_of(slots, rows):
    """What a ring of `rows` should hold: the newest `rows - 1` slots."""
    return [t for slot in slots[-(rows - 1) :] for t in slot if t is not None]


def ring_of(rows, fragment):
    return Ring.for_fragments((rows - 1) * fragment.actions.shape[1], fragment)


def draw(ring, size, seed=0):
    index = ring.draw_rows(size, np.random.default_rng(seed))
    return {name: ring.take(name, index) for name in COLUMNS}


@MODES
@pytest.mark.parametrize("rows", [3, 8, 23])
@pytest.mark.parametrize("gaps", ["no gaps", "resets", "lost fragments"])
def test_that_a_ring_holds_the_newest_transitions_of_random_fragments(mode, rows, gaps):
    world = World(mode, loses_lives=True)
    fragment, slots = world.play(2)
    ring = ring_of(rows, fragment)
    ring.add(fragment)
    for i in range(40):
        if i % 3 == 2 and gaps != "no gaps":
            world.reset() if gaps == "resets" else world.play(4)
            slots.append([None] * world.num_envs)  # the newest observation, which nothing follows
        fragment, new_slots = world.play(int(world.rng.integers(1, 12)))  # often longer than the ring
        ring.add(fragment)
        slots += new_slots
        held = transitions_of(slots, rows)
        counts = check_rows(draw(ring, 60 * rows, i), held)
        assert (counts > 0).mean() > 0.95
        assert len(ring) == world.num_envs * min(rows - 1, len(slots))
        kept = len(ring.get_state()["final_observations"])  # frames besides the columns: no more than needed
        assert kept == (sum(t.truncated for t in held) if mode == SAME_STEP else 0)


@MODES
def test_that_drawing_is_uniform(mode):
    world = World(mode)
    slots = []
    ring = ring_of(20, World(mode).play(1)[0])
    for _ in range(6):
        fragment, new_slots = world.play(9)
        world.reset()
        ring.add(fragment)
        slots += [*new_slots, [None] * 3]
    held = transitions_of(slots[:-1], 20)
    counts = check_rows(draw(ring, 400 * len(held)), held)
    chi_square = ((counts - 400.0) ** 2 / 400.0).sum()
    degrees = len(held) - 1
    assert abs(chi_square - degrees) < 4 * np.sqrt(2 * degrees)


@pytest.mark.parametrize("dtype", [np.bool_, np.uint8, np.float32, np.float64])
def test_that_observations_keep_their_dtype(dtype):
    fragment, slots = World(dtype=dtype).play(5)
    ring = ring_of(9, fragment)
    ring.add(fragment)
    rows = draw(ring, 50)
    assert rows["observations"].dtype == rows["next_observations"].dtype == dtype
    assert ring.observation_shape == fragment.observations.shape[2:]
    check_rows(rows, transitions_of(slots, 9))


@pytest.mark.parametrize("dtype", [np.bool_, np.uint8])
@pytest.mark.parametrize("fragments", [1, 5], ids=["before it wraps", "after it wrapped"])
def test_that_a_restored_ring_is_the_same_bit_for_bit_and_goes_on(dtype, fragments):
    world, rows = World(dtype=dtype), 11
    first, slots = world.play(4)
    ring = ring_of(rows, first)
    ring.add(first)
    for _ in range(fragments - 1):
        fragment, new_slots = world.play(4)
        ring.add(fragment)
        slots += new_slots
    restored = Ring.from_state(ring.get_state())
    following, new_slots = world.play(4)
    for one in (ring, restored):
        one.add(following)  # follows on: no gap
    drawn, again = draw(ring, 200), draw(restored, 200)
    assert all(
        (drawn[name] == again[name]).all() and drawn[name].dtype == again[name].dtype for name in drawn
    )
    check_rows(again, transitions_of(slots + new_slots, rows))


def test_that_boolean_frames_are_saved_in_an_eighth_of_their_memory():
    fragment, _ = World(dtype=np.bool_).play(40)
    ring = ring_of(100, fragment)
    ring.add(fragment)
    packed, shape = ring.get_state()["columns"]["frames"]
    assert shape == (41, 3, 25)
    assert packed.nbytes == -(-41 * 3 * 25 // 8)


def test_that_rows_can_be_written_into_given_arrays():
    fragment, _ = World().play(30)
    ring = ring_of(9, fragment)
    ring.add(fragment)
    index = ring.draw_rows(7, np.random.default_rng(0))
    for name in ("observations", "next_observations"):
        out = np.full((7, 3), 255, np.uint8)
        assert ring.take(name, index, out) is out
        assert (out == ring.take(name, index)).all()


def test_that_a_ring_copies_and_leaves_the_fragment_to_its_owner():
    fragment, slots = World(state_size=2).play(18)
    ring = ring_of(20, fragment)
    ring.add(fragment)
    assert fragment.final_observations
    before, state = draw(ring, 100), fragment.state.copy()
    check_rows(before, transitions_of(slots, 20))
    for array in (fragment.frames, fragment.columns["label"], *fragment.final_observations.values()):
        array[...] = 0
    fragment.is_first[...] = fragment.state[...] = 0
    after = draw(ring, 100)
    assert all((before[name] == after[name]).all() for name in COLUMNS)
    start = ring.first_rows(np.array([0, 0, 0]), np.arange(3))
    assert start.is_first.all() and (start.state == state).all()


@MODES
@pytest.mark.parametrize("n_step", [1, 2, 4])
@pytest.mark.parametrize("steps", [1, 30], ids=["short fragments", "long fragments"])
@pytest.mark.parametrize("gap", ["no gap", "reset", "lost fragment"])
def test_n_step_returns_against_a_walk_along_plain_transitions(mode, n_step, steps, gap):
    gamma, world = 0.9, World(mode, loses_lives=True)
    ring, slots = ring_of(45, World(mode).play(1)[0]), []
    for i in range(60 // steps):
        if i and i % (30 // steps) == 0 and gap != "no gap":
            world.reset() if gap == "reset" else world.play(4)
            slots.append([None] * world.num_envs)
        fragment, new_slots = world.play(steps)
        ring.add(fragment)
        slots += new_slots
    index = ring.draw_rows(3000, np.random.default_rng(0))
    returns, discounts, last = ring.take_n_step(index, n_step, gamma)
    starts, following = ring.take("observations", index), ring.take("next_observations", last)
    expected, lengths = n_step_of(slots, n_step, gamma), set()
    for i, start in enumerate(starts):
        total, discount, transition, length = expected[start.tobytes()]
        lengths.add(length)
        assert returns[i] == pytest.approx(total, abs=1e-5)
        assert discounts[i] == pytest.approx(discount)
        if not transition.terminated:
            assert (following[i] == transition.next_observation).all()
    assert lengths == set(range(1, n_step + 1))
