"""Fragments of several tasks as batches, what batches say of their rows, and the queue that makes them."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box

from rllib_distill.replay import Batch, Fragment, FragmentQueue
from rllib_distill.tasks import SharedSpaces
from tests.replay.worlds import NEXT_STEP, SAME_STEP, World

MODES = pytest.mark.parametrize("mode", [SAME_STEP, NEXT_STEP])
SPACES = SharedSpaces(  # tasks a and b observe 3 numbers of 4
    observation_space=Box(0, 255, (4,), np.uint8),
    action_meanings=None,
    num_actions=7,
    common_actions={"a": np.array([6, 0, 2, 3, 1]), "b": np.array([1, 2, 3, 4, 5])},
    legal_actions={"a": np.isin(range(7), [6, 0, 2, 3, 1]), "b": np.isin(range(7), range(1, 6))},
    channels={"a": 3, "b": 3},
)
STEP_COLUMNS = ("actions", "rewards", "terminations", "truncations", "valid")


# -- of fragments ------------------------------------------------------------------------------------------


@MODES
def test_that_a_batch_is_the_padded_fragments(mode):
    worlds = [World(mode, task=task, seed=i, state_size=2) for i, task in enumerate("ba")]
    for _ in range(5):
        fragments = [world.play(9)[0] for world in worlds]
        made = Batch.of_fragments(fragments, SPACES)
        assert made.tasks == ("b", "a") and made.burn_in == 0
        assert made.shape == (2, 9, 3) and made.num_rows == 54
        assert made.observations.dtype == torch.uint8 and made.observations.shape == (2, 10, 3, 4)
        assert made.columns.keys() == {*STEP_COLUMNS, "label"}
        assert made.columns["actions"].dtype == torch.int64
        assert made.columns["rewards"].dtype == made.state.dtype == torch.float32
        for i, fragment in enumerate(fragments):
            np.testing.assert_array_equal(made.observations[i, ..., :3], fragment.observations)
            assert (made.observations[i, ..., 3] == 0).all()
            common = SPACES.common_actions[fragment.task]
            assert made.columns["actions"][i].tolist() == [[common[a] for a in r] for r in fragment.actions]
            for name in ("rewards", "terminations", "truncations", "valid"):
                np.testing.assert_array_equal(made.columns[name][i], getattr(fragment, name))
            np.testing.assert_array_equal(made.columns["label"][i], fragment.columns["label"])
            np.testing.assert_array_equal(made.is_first[i], fragment.is_first)
            np.testing.assert_array_equal(made.state[i], fragment.state)


@MODES
def test_that_next_observations_follow_from_final_ones_where_an_episode_was_truncated(mode):
    worlds = World(mode, task="a", seed=1), World(mode, task="b", seed=2)
    counts = set()
    for _ in range(10):
        played = [world.play(4) for world in worlds]
        made = Batch.of_fragments([fragment for fragment, _ in played], SPACES)
        following = made.observations[:, 1:].flatten(1, 2).clone()
        if made.final is not None:
            final = made.final
            assert final.rows.shape == final.valid.shape == final.observations.shape[:2]
            counts |= {tuple(final.valid.sum(1).tolist())}
            assert final.valid.sum(1).max() == final.valid.shape[1]
            for i in range(2):
                following[i, final.rows[i, final.valid[i]]] = final.observations[i, final.valid[i]]
        else:
            assert not any(fragment.final_observations for fragment, _ in played)
        for i, (_, slots) in enumerate(played):
            for t, slot in enumerate(slots):
                for b, step in enumerate(slot):
                    if step is not None and (step.truncated or not step.terminated):
                        assert following[i, 3 * t + b, :3].tolist() == step.next_observation.tolist()
    assert len(counts) > 3 if mode == SAME_STEP else not counts


def test_that_stacked_frames_are_put_together():
    fragment = Fragment.empty("a", 0, 0, 5, np.zeros((2, 1, 4), np.uint8), frame_stack=4)
    fragment.frames[:] = np.arange(fragment.frames.size).reshape(fragment.frames.shape)
    fragment.steps_since_reset[:] = [[3, 0], [3, 1], [3, 2], [0, 3], [1, 3], [2, 3]]
    fragment.actions[:] = 0
    made = Batch.of_fragments([fragment], SPACES)
    np.testing.assert_array_equal(made.observations[0], fragment.observations)
    assert (made.observations[0, 0, 1, 0, :3] == 0).all()


def labelled_fragment(task, seed, steps=4):
    """With all labels that there are, as they come out of Ray's object store: not to be written to."""
    fragment, rng = World(task=task, seed=seed).play(steps)[0], np.random.default_rng(seed)
    size = {"a": 2, "b": 6}[task]
    fragment.columns = {
        "expert_outputs": rng.normal(size=(steps, 3, 5)).astype(np.float32),
        "expert_features": rng.normal(size=(steps, 3, size)).astype(np.float32),
        "behaviour_log_probs": rng.normal(size=(steps, 3)).astype(np.float32),
    }
    for array in (fragment.frames, fragment.is_first, fragment.state, *fragment.columns.values()):
        array.flags.writeable = False
    return fragment


@pytest.mark.parametrize("tasks", [("a", "b"), ("b",)])
@pytest.mark.parametrize("num_samples", [1, 3])
def test_that_labels_are_at_the_common_actions_and_features_are_each_tasks_own(tasks, num_samples):
    samples = [[labelled_fragment(task, seed) for task in tasks] for seed in range(num_samples)]
    made = Batch.joined([Batch.of_fragments(fragments, SPACES) for fragments in samples])
    assert made.shape == (len(tasks), 4, 3 * num_samples)
    outputs, features = made.columns["expert_outputs"], made.columns["expert_features"]
    assert outputs.shape == (*made.shape, 7) and isinstance(features, list)
    for j, fragments in enumerate(samples):
        envs = slice(3 * j, 3 * j + 3)
        for i, (task, fragment) in enumerate(zip(tasks, fragments, strict=True)):
            columns, common = fragment.columns, SPACES.common_actions[task]
            np.testing.assert_array_equal(outputs[i, :, envs][..., common], columns["expert_outputs"])
            assert (outputs[i, ..., ~SPACES.legal_actions[task]] == 0).all()
            np.testing.assert_array_equal(features[i][:, envs], columns["expert_features"])
            log_probs = made.columns["behaviour_log_probs"][i, :, envs]
            np.testing.assert_array_equal(log_probs, columns["behaviour_log_probs"])
    legal = made.legal_of(outputs)
    assert legal.dtype == torch.bool and legal.shape == outputs.shape
    for i, task in enumerate(tasks):
        assert (legal[i] == torch.from_numpy(SPACES.legal_actions[task])).all()


def test_that_no_mask_is_needed_where_all_actions_are_legal():
    spaces = replace(
        SPACES, num_actions=5, common_actions={"a": np.arange(5)}, legal_actions={"a": np.ones(5, bool)}
    )
    made = Batch.of_fragments([World(task="a").play(2)[0]], spaces)
    assert made.legal_actions is None and made.legal_of(torch.zeros(1, 2, 3, 5)) is None


# -- joined ------------------------------------------------------------------------------------------------


@MODES
@pytest.mark.parametrize("sizes", [(3, 3), (2, 4, 1)], ids=str)
def test_that_joined_samples_keep_every_environments_rows_and_last_observations(mode, sizes):
    worlds = [
        {task: World(mode, task=task, seed=i, num_envs=size, state_size=2) for task in "ab"}
        for i, size in enumerate(sizes)
    ]
    borders = np.cumsum([0, *sizes])
    found, without = 0, 0
    for _ in range(12):
        parts = [
            Batch.of_fragments([world.play(4)[0] for world in of_tasks.values()], SPACES)
            for of_tasks in worlds
        ]
        joined = Batch.joined(parts)
        for i, part in enumerate(parts):
            envs = slice(borders[i], borders[i + 1])
            for name in (*STEP_COLUMNS, "label"):
                assert torch.equal(joined.columns[name][:, :, envs], part.columns[name]), name
            assert torch.equal(joined.observations[:, :, envs], part.observations)
            assert torch.equal(joined.is_first[:, :, envs], part.is_first)
            assert torch.equal(joined.state[:, envs], part.state)
        expected = {
            (n, t, b + borders[i]): observation
            for i, part in enumerate(parts)
            for (n, t, b), observation in finals_of(part).items()
        }
        assert finals_of(joined) == expected
        found += len(expected)
        without += sum(part.final is None for part in parts)
    assert (found > 0) == (mode == SAME_STEP) and without > 0


def finals_of(batch):
    """(task, t, b) -> final observation."""
    if batch.final is None:
        return {}
    num_envs = batch.shape[2]
    return {
        (n, *divmod(int(batch.final.rows[n, k]), num_envs)): batch.final.observations[n, k].tolist()
        for n, k in batch.final.valid.nonzero().tolist()
    }


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
    assert popped.tasks == ("b", "a") and popped.shape == (2, 2, 6)
    rewards = popped.columns["rewards"]
    assert (rewards[..., :3] == 1).all() and (rewards[..., 3:] == 2).all()
    assert len(queue) == 0 and queue.pop_all() is None
    queue.add(third["b"])
    assert (queue.pop_all().columns["rewards"] == 3).all()


# -- rows that count ---------------------------------------------------------------------------------------


def batch_of(mode, burn_in=0, steps=7):
    fragments = [World(mode, task=task, seed=i).play(steps)[0] for i, task in enumerate("ab")]
    return replace(Batch.of_fragments(fragments, SPACES), burn_in=burn_in)


@MODES
@pytest.mark.parametrize("burn_in", [0, 1, 4, 7])
def test_that_means_are_over_transitions_after_the_burn_in_whatever_else_is_there(mode, burn_in):
    batch = batch_of(mode, burn_in)
    values = torch.randn(batch.shape, generator=torch.Generator().manual_seed(0))
    expected = []
    for i in range(2):
        counted = []
        for t in range(7):
            for b in range(3):
                counts = bool(batch.columns["valid"][i, t, b]) and t >= burn_in
                assert batch.counts[i, t, b] == counts
                counted += [values[i, t, b].item()] if counts else []
        expected.append(np.mean(counted) if counted else 0.0)
    assert batch.mean(values).tolist() == pytest.approx(expected, abs=1e-6)
    spoilt = values.masked_fill(~batch.counts, torch.nan).requires_grad_()
    mean = batch.mean(spoilt)
    assert mean.tolist() == pytest.approx(expected, abs=1e-6)
    mean.sum().backward()
    assert (spoilt.grad[~batch.counts] == 0).all()
    for i in range(2):
        if batch.counts[i].any():
            torch.testing.assert_close(spoilt.grad[i].sum(), torch.tensor(1.0))


def test_that_all_rows_count_where_nothing_is_known_of_them():
    batch = Batch(("a",), torch.zeros(1, 1, 5, 4), {"rewards": torch.arange(5.0).view(1, 1, 5)})
    assert batch.counts is None and batch.shape == (1, 1, 5)
    assert batch.mean(batch.columns["rewards"]).tolist() == [2.0]


@MODES
def test_that_a_row_continues_where_the_next_one_is_the_next_step_of_its_episode(mode):
    worlds = [World(mode, task=task, seed=i, loses_lives=True) for i, task in enumerate("ab")]
    seen = set()
    for _ in range(10):
        played = [world.play(6) for world in worlds]
        batch = Batch.of_fragments([fragment for fragment, _ in played], SPACES)
        for i, (_, slots) in enumerate(played):
            for t in range(5):
                for b in range(3):
                    now, following = slots[t][b], slots[t + 1][b]
                    goes_on = now is not None and not now.terminated and not now.truncated
                    if goes_on:
                        assert following.observation.tolist() == now.next_observation.tolist()
                    assert batch.continues[i, t, b] == goes_on
                    seen.add((now is None, following is None, goes_on))
    assert len(seen) == (4 if mode == NEXT_STEP else 2)


def test_that_a_row_before_a_gap_does_not_continue_though_its_episode_does():
    batch = batch_of(SAME_STEP)
    goes_on = batch.continues.clone()
    b = int(goes_on[0, 2].nonzero()[0])
    before = batch.columns["valid"].clone()
    batch.columns["valid"][0, 3, b] = False
    assert (before != batch.columns["valid"]).sum() == 1
    assert not batch.continues[0, 2, b] and not batch.continues[0, 3, b]
    others = torch.ones_like(goes_on)
    others[0, 2:4, b] = False
    assert torch.equal(batch.continues[others], goes_on[others])


def test_that_what_tasks_have_of_their_own_is_told_row_by_row_where_they_differ():
    batch = batch_of(SAME_STEP)
    assert batch.per_row([0.5, 0.5]) == 0.5
    values = batch.per_row([0.5, 2.0])
    assert values.shape == batch.shape and values.dtype == torch.float32
    assert (values[0] == 0.5).all() and (values[1] == 2.0).all()
