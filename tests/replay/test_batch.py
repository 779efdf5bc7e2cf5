"""Fragments of several tasks as tensors, and the queue that makes them."""

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box

from rllib_distill.replay.batch import Trajectories
from rllib_distill.replay.fragment import Fragment
from rllib_distill.replay.fragment_queue import FragmentQueue
from rllib_distill.tasks import SharedSpaces
from tests.replay.worlds import NEXT_STEP, SAME_STEP, World

MODES = pytest.mark.parametrize("mode", [SAME_STEP, NEXT_STEP])
SPACES = SharedSpaces(  # tasks a and b observe 3 numbers of 4
    observation_space=Box(0, 255, (4,), np.uint8),
    action_meanings=None,
    num_actions=7,
    common_actions={"a": np.array([6, 0, 2, 3, 1]), "b": np.array([1, 2, 3, 4, 5])},
    legal_actions={"a": np.isin(range(7), [6, 0, 2, 3, 1]), "b": np.isin(range(7), range(1, 6))},
)


def begins_by_hand(fragment):
    """Of the worlds' observations, whose last number is the step."""
    begins = fragment.observations[..., 2] == 0
    # What comes after the last row, a fragment can't know in SAME_STEP mode.
    begins[-1] &= ~fragment.valid[-1]
    return begins


@MODES
def test_that_begins_are_the_first_observations_of_episodes(mode):
    world, firsts = World(mode), set()
    for i in range(40):
        fragment, _ = world.play(6)
        np.testing.assert_array_equal(fragment.begins(), begins_by_hand(fragment))
        firsts |= {tuple(fragment.first_begins.tolist())}
        if i == 20:
            world.reset()
    assert len(firsts) > 4  # episodes began in first rows, too


@MODES
def test_that_trajectories_are_the_padded_fragments(mode):
    worlds = World(mode, task="b", seed=1), World(mode, task="a", seed=2)
    for _ in range(5):
        fragments = [world.play(9)[0] for world in worlds]
        made = Trajectories.of(fragments, SPACES)
        assert made.tasks == ("b", "a")
        assert made.observations.dtype == torch.uint8 and made.observations.shape == (2, 10, 3, 4)
        assert made.actions.dtype == torch.int64 and made.behaviour_log_probs is None
        assert made.state.shape == (2, 3, 0) and made.state.dtype == torch.float32
        for i, fragment in enumerate(fragments):
            np.testing.assert_array_equal(made.observations[i, ..., :3], fragment.observations)
            assert (made.observations[i, ..., 3] == 0).all()
            common = SPACES.common_actions[fragment.task]
            assert made.actions[i].tolist() == [[common[a] for a in row] for row in fragment.actions]
            for name in ("rewards", "terminations", "truncations", "valid"):
                np.testing.assert_array_equal(getattr(made, name)[i], getattr(fragment, name))
            np.testing.assert_array_equal(made.begins[i], begins_by_hand(fragment))


@MODES
def test_that_next_observations_follow_from_final_ones_where_an_episode_was_truncated(mode):
    worlds = World(mode, task="a", seed=1), World(mode, task="b", seed=2)
    counts = set()
    for _ in range(10):
        played = [world.play(4) for world in worlds]
        made = Trajectories.of([fragment for fragment, _ in played], SPACES)
        assert made.final_rows.shape == made.final_valid.shape == made.final_observations.shape[:2]
        counts |= {tuple(made.final_valid.sum(1).tolist())}
        assert made.final_valid.sum(1).max() == made.final_valid.shape[1]
        for i, (_, slots) in enumerate(played):
            following = made.observations[i, 1:].flatten(0, 1).clone()
            is_final = made.final_valid[i]
            following[made.final_rows[i, is_final]] = made.final_observations[i, is_final]
            following = following.view(4, 3, 4)
            for t, slot in enumerate(slots):
                for b, step in enumerate(slot):
                    if step is not None and (step.truncated or not step.terminated):
                        assert following[t, b, :3].tolist() == step.next_observation.tolist()
    assert counts == {(0, 0)} if mode == NEXT_STEP else len(counts) > 3


def test_that_stacked_frames_are_put_together():
    fragment = Fragment.empty("a", 0, 0, 5, np.zeros((2, 1, 4), np.uint8), frame_stack=4)
    fragment.frames[:] = np.arange(fragment.frames.size).reshape(fragment.frames.shape)
    fragment.ages[:] = [[3, 0], [3, 1], [3, 2], [0, 3], [1, 3], [2, 3]]
    fragment.actions[:] = 0
    made = Trajectories.of([fragment], SPACES)
    np.testing.assert_array_equal(made.observations[0], fragment.observations)
    assert (made.observations[0, 0, 1, 0, :3] == 0).all()


def sample_of(number):
    """A fragment of each task, whose rewards are the number."""
    fragments = {task: World(task=task).play(2)[0] for task in ("a", "b")}
    for fragment in fragments.values():
        fragment.rewards[:] = number
    return fragments


def test_that_a_queue_hands_out_all_whole_samples_side_by_side():
    queue = FragmentQueue(("b", "a"), SPACES)
    assert queue.pop_all() is None
    first, second, third = sample_of(1), sample_of(2), sample_of(3)
    queue.add(first["a"])
    assert len(queue) == 0 and queue.pop_all() is None
    for fragment in (first["b"], second["a"], second["b"], third["a"]):
        queue.add(fragment)
    assert len(queue) == 2
    popped = queue.pop_all()
    assert popped.tasks == ("b", "a") and popped.rewards.shape == (2, 2, 6)
    assert (popped.rewards[..., :3] == 1).all() and (popped.rewards[..., 3:] == 2).all()
    assert len(queue) == 0 and queue.pop_all() is None
    queue.add(third["b"])
    assert (queue.pop_all().rewards == 3).all()


@MODES
def test_that_joined_samples_keep_every_environments_rows_and_last_observations(mode):
    worlds = [World(mode, task="a", seed=1), World(mode, task="a", seed=2)]
    found = 0
    for _ in range(10):
        parts = [Trajectories.of([world.play(9)[0]], SPACES) for world in worlds]
        joined = Trajectories.joined(parts)
        for name in ("observations", "actions", "rewards", "terminations", "truncations", "valid", "begins"):
            both = getattr(joined, name)
            for i, part in enumerate(parts):
                assert torch.equal(both[:, :, 3 * i : 3 * i + 3], getattr(part, name)), name
        assert joined.state.shape == (1, 6, 0) and joined.behaviour_log_probs is None
        expected = {
            (t, b + 3 * i): part.final_observations[0, k].tolist()
            for i, part in enumerate(parts)
            for k, row in enumerate(part.final_rows[0].tolist())
            if part.final_valid[0, k]
            for t, b in [divmod(row, 3)]
        }
        seen = {
            divmod(row, 6): joined.final_observations[0, k].tolist()
            for k, row in enumerate(joined.final_rows[0].tolist())
            if joined.final_valid[0, k]
        }
        assert seen == expected
        found += len(seen)
    assert (found > 0) == (mode == SAME_STEP)
