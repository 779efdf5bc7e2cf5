"""Stacks of frames against those that a real game gave, and what they cost in memory."""

import numpy as np
import pytest

from rllib_distill.env_runner.task_envs import TaskEnvs
from rllib_distill.replay.replay_buffer import Ring
from rllib_distill.tasks import TaskSpec

NUM_ENVS = 3


class Recorder:
    """Plays fragments of Breakout, and tells beside them the stacks that the environment returned."""

    def __init__(self, frame_stack=4):
        config = {"frame_skip": 30, "frame_stack": frame_stack}  # episodes then take 20 steps
        spec = TaskSpec.from_config("breakout", {"env": "ALE/Breakout-v5", "env_config": config})
        self.envs = TaskEnvs(spec.make_vector_env(NUM_ENVS))
        self.envs.reset(seed=0)
        self.rng = np.random.default_rng(0)

    def play(self, steps):
        fragment, stacks = self.envs.new_fragment("breakout", 0, steps), [self.envs.observations.copy()]
        for t in range(steps):
            self.envs.step(self.rng.integers(0, 4, NUM_ENVS), fragment, t)
            stacks.append(self.envs.observations.copy())
        return fragment, np.array(stacks)


@pytest.mark.parametrize("frame_stack", [1, 2, 4])
def test_that_a_fragment_gives_back_the_stacks_of_its_steps(frame_stack):
    recorder, ends = Recorder(frame_stack), 0
    for steps in (1, 2, 22, 3, 25):
        fragment, stacks = recorder.play(steps)
        np.testing.assert_array_equal(fragment.observations, stacks)
        ends += fragment.terminations.sum()
    assert ends > NUM_ENVS


def test_that_a_preallocated_array_gets_the_same_stacks():
    fragment, _ = Recorder().play(40)
    ring = Ring.for_fragments(100 * NUM_ENVS, fragment)
    ring.add(fragment)
    index = ring.draw_rows(16, np.random.default_rng(0))
    expected = ring.take("observations", index)
    by_frame = np.moveaxis(np.empty((16, 4, 84, 84), np.uint8), 1, -1)
    by_pixel = np.empty((16, 84, 84, 4), np.uint8)
    for out in (by_frame, by_pixel):
        ring.take("observations", index, out)
        np.testing.assert_array_equal(out, expected)


def test_that_five_games_of_100000_steps_take_less_than_4_gigabytes():
    fragment, _ = Recorder().play(4)
    ring = Ring.for_fragments(300, fragment)
    while len(ring) < 300:  # until it has used all its memory
        ring.add(fragment)
    columns = ring.get_state()["columns"]
    assert columns.keys() >= {"frames", "actions", "rewards", "is_first", "valid"}
    nbytes = sum(np.prod(shape) if shape else column.nbytes for column, shape in columns.values())
    bytes_per_step = nbytes / (ring.rows * NUM_ENVS)
    assert 7056 < bytes_per_step < 7100  # 7056 of them the frame
    assert 5 * 100_000 * bytes_per_step < 4e9
