"""The layout of a minibatch of rows: whose row is where, and what it says."""

import numpy as np
import pytest
import torch

from rllib_distill.env_runner import MultiTaskEnvRunner
from rllib_distill.replay import Minibatches, ReplayBuffer

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
    replay = ReplayBuffer(SIZES, capacity=1000, seed=0)
    for fragment in fragments:
        replay.add(fragment)
    return Minibatches(replay, actor_mimic().module_spaces("student"), SIZES, N, COLUMNS, "cpu")


def test_that_every_task_has_its_rows_where_they_belong_and_padding_is_zero(minibatches, fragments):
    identities = {f.task: set(f.observations[..., 0].flat) for f in fragments}
    assert not identities["short"] & identities["long"]
    for _ in range(3):  # the arrays are written again
        batch = minibatches.draw()
        assert batch.tasks == ("short", "long") and batch.shape == (2, 1, N)
        for values in (batch.observations, batch.columns["next_observations"]):
            assert values.shape == (2, 1, N, 5)
            for task, (observations,) in zip(SIZES, values, strict=True):
                assert set(observations[:, 0].tolist()) <= identities[task]
                assert (observations[:, SIZES[task] :] == 0).all()


def test_that_labels_are_at_the_common_actions_and_belong_to_the_rows_observation(minibatches, bank):
    batch = minibatches.draw()
    columns = batch.columns["expert_outputs"], batch.columns["expert_features"]
    labels = zip(SIZES, batch.observations, *columns, strict=True)
    for task, observations, outputs, features in labels:
        expected = bank.label(task, observations[..., : SIZES[task]].numpy())
        illegal = [a for a in range(4) if a not in COMMON[task]]
        np.testing.assert_allclose(outputs[..., COMMON[task]], expected.outputs, rtol=1e-5)
        assert (outputs[..., illegal] == 0).all()
        np.testing.assert_allclose(features, expected.features, rtol=1e-5, atol=1e-4)
        assert features.shape == (1, N, bank[task].network.feature_size)
    legal = batch.legal_actions
    assert legal.dtype == torch.bool and legal.shape == (2, 1, 1, 4)
    assert legal[0].flatten().tolist() == [True, False, False, True]
    assert legal[1].all()


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
    for n, own in enumerate(SIZES):
        for i in range(N):
            observation = batch.observations[n, 0, i]
            row = {name: values[n][0, i] for name, values in batch.columns.items()}
            task, action, reward, terminated = steps[tuple(map(int, observation[:3]))]
            assert task == own
            assert row["actions"] == COMMON[task][action]
            assert row["rewards"] == reward
            assert row["terminations"] == terminated
            assert row["next_observations"][2] == observation[2] + 1
    assert batch.columns["actions"].dtype == torch.int64
    assert batch.columns["rewards"].dtype == torch.float32
    assert batch.columns["terminations"].dtype == torch.bool


def test_that_no_mask_is_needed_where_all_actions_are_legal(dqn, fragments):
    replay = ReplayBuffer(SIZES, capacity=1000, seed=0)
    replay.add(fragments[1])
    one = Minibatches(replay, dqn().module_spaces("long"), ["long"], N, ("observations",), "cpu")
    assert one.draw().legal_actions is None


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
