"""Minibatches of sequences against a slow loop over what the replay buffer draws."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box

from rllib_distill.replay import Batch, Minibatches, OneTaskAtATime, ReplayBuffer, Sequences
from tests.replay.test_batch import SPACES, finals_of
from tests.replay.worlds import NEXT_STEP, SAME_STEP, World

MODES = pytest.mark.parametrize("mode", [SAME_STEP, NEXT_STEP])
LABELS = ("expert_outputs", "expert_features", "behaviour_log_probs")
STEP_COLUMNS = ("actions", "rewards", "terminations", "truncations", "valid")
FEATURES = {"a": 2, "b": 6}
LENGTH, SIZE = 5, 4
STACKED = replace(  # as many frames as b stacks; a stacks fewer
    SPACES, observation_space=Box(0, 255, (3, 4), np.uint8), channels={"a": 2, "b": 4}
)


def filled(mode=SAME_STEP, *, frame_stack=None, tasks="ab", fragments=12, seed=3):
    """A replay buffer of two tasks and two env runners, with gaps and all labels."""
    replay, rng = ReplayBuffer(tasks, capacity=400, num_env_runners=2, seed=seed), np.random.default_rng(0)
    for task in tasks:
        for runner in range(2):
            stack = (frame_stack or {}).get(task, 1)
            world = World(
                mode, task=task, env_runner_index=runner, seed=ord(task), state_size=2, frame_stack=stack
            )
            for i in range(fragments):
                fragment, _ = world.play(3)
                fragment.columns = {
                    "expert_outputs": rng.normal(size=(3, 3, 5)).astype(np.float32),
                    "expert_features": rng.normal(size=(3, 3, FEATURES[task])).astype(np.float32),
                    "behaviour_log_probs": rng.normal(size=(3, 3)).astype(np.float32),
                }
                replay.add(fragment)
                if i % 5 == 4:
                    world.play(2)  # another learner got it
    return replay


def slowly(replay, spaces, tasks, names):
    """One draw of each task, element by element: name -> task -> array, and (task, t, i) -> final."""
    made, finals = {}, {}
    for n, task in enumerate(tasks):
        drawn, of_task = replay.sample_sequences(task, SIZE, LENGTH, names)
        finals |= {(n, t, i): padded(observation, spaces) for (t, i), observation in of_task.items()}
        for name, values in drawn.items():
            of_name = made.setdefault(name, {}).setdefault(task, [])
            if name == "state":
                of_name += values.tolist()
                continue
            for t in range(len(values)):
                of_name.append([laid_out(name, task, values[t, i], spaces) for i in range(SIZE)])
    return made, finals


def laid_out(name, task, value, spaces):
    if name == "observations":
        return padded(value, spaces)
    if name == "actions":
        return int(spaces.common_actions[task][value])
    if name == "expert_outputs":
        outputs = [0.0] * spaces.num_actions
        for own, common in enumerate(spaces.common_actions[task]):
            outputs[common] = float(value[own])
        return outputs
    return value.tolist()


def padded(observation, spaces):
    whole = np.zeros(spaces.observation_space.shape, observation.dtype)
    whole[..., : observation.shape[-1]] = observation
    return whole.tolist()


@pytest.mark.parametrize(
    ("mode", "frame_stack", "spaces"),
    [(SAME_STEP, None, SPACES), (NEXT_STEP, None, SPACES), (SAME_STEP, {"a": 2, "b": 4}, STACKED)],
    ids=["same step", "next step", "stacked"],
)
@pytest.mark.parametrize("tasks", ["ab", "ba", "b"])
def test_that_a_minibatch_is_what_a_slow_loop_makes_of_the_draws(mode, frame_stack, spaces, tasks):
    fast, slow = (filled(mode, frame_stack=frame_stack) for _ in range(2))
    tasks, names = tuple(tasks), ("observations", "rewards", *LABELS)
    minibatches = Minibatches(fast, spaces, tasks, SIZE, names, "cpu", sequences=Sequences(LENGTH, 2))
    num_finals = 0
    for _ in range(8):  # the arrays are written again
        batch = minibatches.draw()
        expected, finals = slowly(
            slow, spaces, tasks, (*names, "actions", "terminations", "truncations", "valid")
        )
        assert batch.tasks == tasks and batch.shape == (len(tasks), LENGTH, SIZE) and batch.burn_in == 2
        assert batch.observations.shape[:3] == batch.is_first.shape == (len(tasks), LENGTH + 1, SIZE)
        assert batch.state.shape == (len(tasks), SIZE, 2)
        assert batch.columns.keys() == {*STEP_COLUMNS, *LABELS}
        for n, task in enumerate(tasks):
            assert batch.observations[n].tolist() == expected["observations"][task]
            assert batch.is_first[n].tolist() == expected["is_first"][task]
            assert batch.state[n].tolist() == expected["state"][task]
            for name in (*STEP_COLUMNS, *LABELS):
                assert batch.columns[name][n].tolist() == expected[name][task], name
            assert batch.legal_actions[n, 0, 0].tolist() == spaces.legal_actions[task].tolist()
        assert finals_of(batch) == finals
        num_finals += len(finals)
        counted = batch.columns["valid"].clone()
        counted[:, :2] = False
        assert torch.equal(batch.counts, counted)
    assert batch.observations.dtype == torch.uint8 and batch.columns["actions"].dtype == torch.int64
    assert batch.state.dtype == batch.columns["rewards"].dtype == torch.float32
    assert (num_finals > 0) == (mode == SAME_STEP)


@MODES
def test_that_sequences_of_whole_fragments_are_the_batches_of_these(mode):
    """Both ways into a batch lay out the same."""
    replay, worlds = ReplayBuffer("ab", capacity=100, seed=0), {}
    for task in "ab":
        worlds[task] = World(mode, task=task, seed=ord(task), state_size=2).play(LENGTH)[0]
        worlds[task].columns = {}
        replay.add(worlds[task])
    direct = Batch.of_fragments([worlds["b"], worlds["a"]], SPACES)
    names = ("observations", "rewards")
    drawn = Minibatches(replay, SPACES, ("b", "a"), 3, names, "cpu", sequences=Sequences(LENGTH)).draw()
    assert drawn.burn_in == 0 and torch.equal(drawn.legal_actions, direct.legal_actions)
    for n in range(2):
        order = [
            (direct.observations[n, 0] == drawn.observations[n, 0, i]).all(-1).nonzero().item()
            for i in range(3)
        ]
        assert sorted(order) == [0, 1, 2]
        assert torch.equal(drawn.observations[n], direct.observations[n][:, order])
        assert torch.equal(drawn.is_first[n], direct.is_first[n][:, order])
        assert torch.equal(drawn.state[n], direct.state[n][order])
        for name in STEP_COLUMNS:
            assert torch.equal(drawn.columns[name][n], direct.columns[name][n][:, order])
        of_env = {(t, order.index(b)): value for (m, t, b), value in finals_of(direct).items() if m == n}
        assert of_env == {(t, b): value for (m, t, b), value in finals_of(drawn).items() if m == n}


def test_that_a_minibatch_of_one_task_is_of_either():
    replay = filled()
    of_task = {
        task: Minibatches(replay, SPACES, task, SIZE, ("observations",), "cpu", sequences=Sequences(LENGTH))
        for task in "ab"
    }
    tasks = [batch.tasks for batch in (OneTaskAtATime(replay, of_task).draw() for _ in range(40))]
    assert set(tasks) == {("a",), ("b",)} and 8 < tasks.count(("a",)) < 32


def test_that_rows_have_neither_states_nor_episodes_and_all_of_them_count():
    minibatches = Minibatches(filled(), SPACES, "ab", SIZE, ("observations",), "cpu")
    batch = minibatches.draw()
    assert batch.shape == (2, 1, SIZE) and batch.num_rows == 2 * SIZE
    assert batch.state is batch.is_first is batch.final is batch.counts is None
