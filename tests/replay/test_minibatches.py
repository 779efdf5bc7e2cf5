"""Minibatches of sequences and of rows against a slow loop over what the replay buffer draws."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box

from rllib_distill.env_runner import MultiTaskEnvRunner
from rllib_distill.replay import Minibatches, OneTaskAtATime, ReplayBuffer, Sequences
from tests.replay.test_batch import SPACES, finals_of
from tests.replay.worlds import NEXT_STEP, SAME_STEP, World

ASKED = ("observations", "rewards", "expert_outputs", "expert_features", "behaviour_log_probs")
OF_ROWS = ("next_observations", "actions", "terminations")
OF_SEQUENCES = ("actions", "terminations", "truncations", "valid")  # come without being asked for
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


def slowly(replay, spaces, tasks, sequences):
    """One draw of each task, element by element: name -> task -> array, and (task, t, i) -> final."""
    made, finals = {}, {}
    for n, task in enumerate(tasks):
        if sequences is None:
            rows, of_task = replay.sample_rows(task, SIZE, ASKED + OF_ROWS), {}
            drawn = {name: values[None] for name, values in rows.items()}
        else:
            drawn, of_task = replay.sample_sequences(task, SIZE, LENGTH, ASKED + OF_SEQUENCES)
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
    if name in ("observations", "next_observations"):
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
@pytest.mark.parametrize("sequences", [Sequences(LENGTH, 2), None], ids=["sequences", "rows"])
def test_that_a_minibatch_is_what_a_slow_loop_makes_of_the_draws(mode, frame_stack, spaces, tasks, sequences):
    fast, slow = (filled(mode, frame_stack=frame_stack) for _ in range(2))
    tasks, length = tuple(tasks), 1 if sequences is None else LENGTH
    names = ASKED + (OF_ROWS if sequences is None else ())
    minibatches = Minibatches(fast, spaces, tasks, SIZE, names, "cpu", sequences=sequences)
    num_finals = 0
    for _ in range(8):  # the arrays are written again
        batch = minibatches.draw()
        expected, finals = slowly(slow, spaces, tasks, sequences)
        assert batch.tasks == tasks and batch.shape == (len(tasks), length, SIZE)
        assert batch.num_rows == len(tasks) * length * SIZE
        made = {**batch.columns, "observations": batch.observations}
        if sequences is None:
            assert batch.state is batch.is_first is batch.final is batch.counts is None
        else:
            assert batch.burn_in == 2 and batch.state.dtype == torch.float32
            made |= {"is_first": batch.is_first, "state": batch.state}
            counted = batch.columns["valid"].clone()
            counted[:, :2] = False
            assert torch.equal(batch.counts, counted)
        assert made.keys() == expected.keys()
        for n, task in enumerate(tasks):
            for name, values in made.items():
                assert values[n].tolist() == expected[name][task], name
            assert batch.legal_actions[n, 0, 0].tolist() == spaces.legal_actions[task].tolist()
        assert finals_of(batch) == finals
        num_finals += len(finals)
    assert batch.observations.dtype == torch.uint8 and batch.columns["actions"].dtype == torch.int64
    assert batch.columns["rewards"].dtype == torch.float32
    assert batch.columns["terminations"].dtype == torch.bool
    assert (num_finals > 0) == (mode == SAME_STEP and sequences is not None)


def test_that_a_minibatch_of_one_task_is_of_either():
    replay = filled()
    of_task = {
        task: Minibatches(replay, SPACES, task, SIZE, ("observations",), "cpu", sequences=Sequences(LENGTH))
        for task in "ab"
    }
    tasks = [batch.tasks for batch in (OneTaskAtATime(replay, of_task).draw() for _ in range(40))]
    assert set(tasks) == {("a",), ("b",)} and 8 < tasks.count(("a",)) < 32


def test_that_stacked_frames_stay_frame_by_frame_in_memory_and_in_their_rows(dqn):
    tasks = {"narrow": {"env": "ALE/Pong-v5", "env_config": {"frame_stack": 2}}, "wide": "ALE/Breakout-v5"}
    config = dqn(network=None).multi_task(tasks=tasks)
    replay = ReplayBuffer(tasks, capacity=100, seed=0)
    fragments = {f.task: f for f in MultiTaskEnvRunner(config=config, worker_index=0).sample()}
    for fragment in fragments.values():
        replay.add(fragment)
    shared = config.task_set.shared()
    columns = ("observations", "next_observations")
    minibatches = Minibatches(replay, shared, tasks, 4, columns, "cpu")
    for _ in range(3):  # the first allocates, later ones write again
        batch = minibatches.draw()
        for values in (batch.observations, batch.columns["next_observations"]):
            assert values.shape == (2, 1, 4, 84, 84, 4) and values.dtype == torch.uint8
            assert values.flatten(0, 2).permute(0, 3, 1, 2).is_contiguous()
            assert not values[0, ..., 2:].any()
            for task, drawn, depth in zip(("narrow", "wide"), values, (2, 4), strict=True):
                stored = fragments[task].observations.reshape(-1, 84, 84, depth)
                for observation in drawn[0, ..., :depth].numpy():
                    assert any((observation == each).all() for each in stored)
