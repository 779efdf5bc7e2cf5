"""The layout of a minibatch: whose row is where, and what it says."""

import numpy as np
import pytest
import torch

from rllib_distill.env_runner.multi_task_env_runner import MultiTaskEnvRunner
from rllib_distill.replay.minibatch import Minibatches
from rllib_distill.replay.replay_buffer import TaskReplay

COMMON = {"short": [3, 0], "long": [0, 1, 2, 3]}  # "fn" and "nudf" in n, u, d, f
SIZES = {"short": 3, "long": 5}
N = 50
COLUMNS = (
    "observations",
    "next_observations",
    "actions",
    "rewards",
    "terminations",
    "expert_outputs",
    "expert_features",
)


@pytest.fixture(scope="module")
def fragments(actor_mimic):
    config = actor_mimic(beta=0.1, epsilon=0.5)
    config.validate()
    return MultiTaskEnvRunner(config=config, worker_index=0).sample(num_timesteps=600)


@pytest.fixture
def minibatches(actor_mimic, fragments):
    replay = TaskReplay(SIZES, capacity=1000, seed=0)
    for fragment in fragments:
        replay.add(fragment)
    return Minibatches(replay, actor_mimic().module_spaces("student"), SIZES, N, COLUMNS, "cpu")


def parts(batch, name):
    return zip(SIZES, batch[name].split(N), strict=True)


def test_that_every_task_has_its_rows_where_they_belong_and_padding_is_zero(minibatches, fragments):
    identities = {f.task: set(f.observations[..., 0].flat) for f in fragments}
    assert not identities["short"] & identities["long"]
    for _ in range(3):  # the arrays are written again
        batch = minibatches.draw()
        for name in ("obs", "new_obs"):
            for task, observations in parts(batch, name):
                assert observations.shape == (N, 5)
                assert set(observations[:, 0].tolist()) <= identities[task]
                assert (observations[:, SIZES[task] :] == 0).all()


def test_that_labels_are_at_the_common_actions_and_belong_to_the_rows_observation(minibatches, bank):
    batch = minibatches.draw()
    labels = zip(parts(batch, "obs"), batch["expert_outputs"].split(N), batch["expert_features"], strict=True)
    for (task, observations), outputs, features in labels:
        expected, expected_features = bank.label(task, observations[:, : SIZES[task]].numpy())
        illegal = [a for a in range(4) if a not in COMMON[task]]
        np.testing.assert_allclose(outputs[:, COMMON[task]], expected, rtol=1e-5)
        assert (outputs[:, illegal] == 0).all()
        np.testing.assert_allclose(features, expected_features, rtol=1e-5, atol=1e-4)
        assert features.shape == (N, bank[task].network.feature_size)
    legal = batch["legal_actions"]
    assert legal.dtype == torch.bool
    assert legal[:N].tolist() == [[True, False, False, True]] * N
    assert legal[N:].all()


def test_that_actions_rewards_and_ends_belong_to_their_row(minibatches, fragments):
    batch = minibatches.draw()
    steps = {
        (int(identity), int(episode), int(step)): (
            f.task,
            f.actions[t, b],
            f.rewards[t, b],
            f.terminations[t, b],
        )
        for f in fragments
        for t, b in zip(*np.nonzero(f.valid), strict=True)
        for identity, episode, step in [f.observations[t, b, :3]]
    }
    for i in range(2 * N):
        task, action, reward, terminated = steps[tuple(map(int, batch["obs"][i, :3]))]
        assert batch["actions"][i] == COMMON[task][action]
        assert batch["rewards"][i] == reward
        assert batch["terminations"][i] == float(terminated)
        assert batch["new_obs"][i, 2] == batch["obs"][i, 2] + 1
    assert batch["actions"].dtype == torch.int64
    assert batch["rewards"].dtype == batch["terminations"].dtype == torch.float32


def test_that_no_mask_is_needed_where_all_actions_are_legal(dqn, fragments):
    replay = TaskReplay(SIZES, capacity=1000, seed=0)
    replay.add(fragments[1])
    one = Minibatches(replay, dqn().module_spaces("long"), ["long"], N, ("observations",), "cpu")
    assert one.draw()["legal_actions"] is None


def test_that_stacked_frames_stay_frame_by_frame_in_memory_and_in_their_rows(dqn):
    tasks = {"narrow": {"env": "ALE/Pong-v5", "env_config": {"frame_stack": 2}}, "wide": "ALE/Breakout-v5"}
    config = dqn(network=None).multi_task(tasks=tasks)
    replay = TaskReplay(tasks, capacity=100, seed=0)
    fragments = {f.task: f for f in MultiTaskEnvRunner(config=config, worker_index=0).sample()}
    for fragment in fragments.values():
        replay.add(fragment)
    shared = config.task_set.shared()
    columns = ("observations", "next_observations")
    minibatches = Minibatches(replay, shared, tasks, 4, columns, "cpu")
    for _ in range(3):  # the first allocates, later ones write again
        batch = minibatches.draw()
        for name in ("obs", "new_obs"):
            assert batch[name].shape == (8, 84, 84, 4) and batch[name].dtype == torch.uint8
            assert batch[name].permute(0, 3, 1, 2).is_contiguous()
            assert not batch[name][:4, ..., 2:].any()
            for task, rows, depth in (("narrow", slice(4), 2), ("wide", slice(4, 8), 4)):
                stored = fragments[task].observations.reshape(-1, 84, 84, depth)
                for observation in batch[name][rows, ..., :depth].numpy():
                    assert any((observation == each).all() for each in stored)
