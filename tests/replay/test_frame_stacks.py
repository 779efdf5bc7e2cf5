"""Stacks of frames from a ring against those that a real game gave, frame for frame."""

import numpy as np
import pytest

from rllib_distill.env_runner.task_envs import TaskEnvs
from rllib_distill.replay.replay_buffer import Ring
from rllib_distill.tasks import TaskSpec

NUM_ENVS = 3


class Recorder:
    """Plays fragments, and remembers every transition's stacks as the environment returned them."""

    def __init__(self, seed=0, **env_config):
        config = {"frame_skip": 30, **env_config}  # episodes of Breakout then take 20 steps
        spec = TaskSpec.from_config("breakout", {"env": "ALE/Breakout-v5", "env_config": config})
        self.envs = TaskEnvs(spec.make_vector_env(NUM_ENVS))
        self.envs.reset(seed=seed)
        self.rng = np.random.default_rng(seed)
        self.num_episodes = 0
        self.transitions = []  # per row and environment: (stack, action, terminated, next stack)

    def play(self, steps):
        fragment = self.envs.new_fragment("breakout", 0, steps)
        for t in range(steps):
            before = self.envs.observations.copy()
            actions = self.rng.integers(0, 4, NUM_ENVS)
            self.num_episodes += len(self.envs.step(actions, fragment, t))
            row = []
            for b in range(NUM_ENVS):
                after = fragment.final_observations.get((t, b), self.envs.observations[b].copy())
                row.append((before[b], actions[b], fragment.terminations[t, b], after))
            self.transitions.append(row)
        return fragment


def transitions_in(ring, recorder):
    """Every drawable transition, by its flat index, beside what was recorded; `ring` must have no gap."""
    last = len(recorder.transitions)
    for age in range(1, len(ring) // NUM_ENVS + 1):
        row = (ring.head - age) % ring.rows
        if age <= last:
            for b, recorded in enumerate(recorder.transitions[last - age]):
                yield row * NUM_ENVS + b, recorded


@pytest.mark.parametrize("frame_stack", [1, 2, 4])
def test_that_a_fragment_gives_back_the_stacks_of_its_steps(frame_stack):
    recorder = Recorder(frame_stack=frame_stack)
    for steps in (1, 2, 22, 3, 25):
        first = len(recorder.transitions)
        observations = recorder.play(steps).observations
        for t, row in enumerate(recorder.transitions[first:]):
            for b, (stack, *_) in enumerate(row):
                np.testing.assert_array_equal(observations[t, b], stack)
        np.testing.assert_array_equal(observations[-1], recorder.envs.observations)


@pytest.mark.parametrize("frame_stack", [1, 2, 4])
@pytest.mark.parametrize("max_frames", [108_000, 150])  # 150 frames truncate after 5 steps
def test_that_drawn_stacks_are_those_that_the_game_gave(frame_stack, max_frames):
    recorder = Recorder(frame_stack=frame_stack, max_num_frames_per_episode=max_frames)
    ring = None
    for steps in (2, 1, 13, 3, 25, 2, 28, 4):  # wraps, and is once longer than the ring
        fragment = recorder.play(steps)
        ring = ring or Ring.for_fragments(16 * NUM_ENVS, fragment)
        ring.add(fragment)
        index, recorded = zip(*transitions_in(ring, recorder), strict=True)
        stacks, actions, terminations, next_stacks = map(np.stack, zip(*recorded, strict=True))
        index = np.array(index)
        np.testing.assert_array_equal(ring.take("observations", index), stacks)
        np.testing.assert_array_equal(ring.take("actions", index), actions)
        np.testing.assert_array_equal(ring.take("terminations", index), terminations)
        goes_on = ~terminations
        np.testing.assert_array_equal(ring.take("next_observations", index)[goes_on], next_stacks[goes_on])
        drawn = ring.draw_rows(500, np.random.default_rng(0))
        assert set(drawn) == set(index)
    assert recorder.num_episodes > NUM_ENVS
    assert len(index) == 16 * NUM_ENVS  # the ring is full, and all of it was checked


def test_that_a_stack_never_reaches_over_a_gap():
    recorder = Recorder()
    first = recorder.play(10)
    ring = Ring.for_fragments(100 * NUM_ENVS, first)
    ring.add(first)
    recorder.play(3)  # another learner got this one
    third = recorder.play(10)
    ring.add(third)
    drawn = ring.draw_rows(800, np.random.default_rng(0))
    assert len(set(drawn)) == 20 * NUM_ENVS
    rows = drawn // NUM_ENVS
    known = np.concatenate([first.observations[:-1], third.observations[:-1]])
    position = {row: i for i, row in enumerate(sorted(set(rows)))}
    expected = known[[position[row] for row in rows], drawn % NUM_ENVS]
    np.testing.assert_array_equal(ring.take("observations", drawn), expected)


def test_that_a_preallocated_array_gets_the_same_stacks():
    recorder = Recorder()
    fragment = recorder.play(40)
    ring = Ring.for_fragments(100 * NUM_ENVS, fragment)
    ring.add(fragment)
    index = ring.draw_rows(16, np.random.default_rng(0))
    expected = ring.take("observations", index)
    by_frame = np.moveaxis(np.empty((16, 4, 84, 84), np.uint8), 1, -1)
    by_pixel = np.empty((16, 84, 84, 4), np.uint8)
    for out in (by_frame, by_pixel):
        ring.take("observations", index, out)
        np.testing.assert_array_equal(out, expected)


def test_that_a_saved_ring_draws_the_same_stacks():
    recorder = Recorder()
    fragment = recorder.play(40)
    ring = Ring.for_fragments(20 * NUM_ENVS, fragment)
    ring.add(fragment)
    again = Ring.from_state(ring.get_state())
    following = recorder.play(5)
    for one in (ring, again):
        one.add(following)
    index = ring.draw_rows(50, np.random.default_rng(0))
    for name in ("observations", "next_observations", "actions"):
        np.testing.assert_array_equal(again.take(name, index), ring.take(name, index))


def test_that_five_games_of_100000_steps_take_less_than_4_gigabytes():
    fragment = Recorder().play(4)
    ring = Ring.for_fragments(300, fragment)
    while len(ring) < 300:  # until it has used all its memory
        ring.add(fragment)
    columns = ring.get_state()["columns"]
    assert columns.keys() >= {"frames", "actions", "rewards", "is_first", "valid"}
    nbytes = sum(np.prod(shape) if shape else column.nbytes for column, shape in columns.values())
    bytes_per_step = nbytes / (ring.rows * NUM_ENVS)
    assert 7056 < bytes_per_step < 7100  # 7056 of them the frame
    assert 5 * 100_000 * bytes_per_step < 4e9
