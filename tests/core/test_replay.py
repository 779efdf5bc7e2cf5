"""How much a replay buffer must hold for sequences to be drawn from it."""

import pytest

from rllib_distill import SoftQDistralConfig
from rllib_distill.core.learner import num_sources
from rllib_distill.errors import DistillError
from rllib_distill.replay import Fragment, ReplayBuffer

TASKS = {f"goal_{i}": {"env": "rllib_distill/TwoRooms-v0", "env_config": {"task": i}} for i in range(2)}
ENVS = 10


def config(fragment, length, capacity, num_env_runners=0, num_learners=0):
    return (
        SoftQDistralConfig()
        .multi_task(tasks=TASKS, num_envs_per_task=ENVS)
        .env_runners(num_env_runners=num_env_runners, rollout_fragment_length=fragment)
        .learners(num_learners=num_learners)
        .training(
            network={"type": "mlp"},
            n_step=1,
            sequence_length=length,
            train_batch_size_per_learner=2 * length,
            replay_capacity=capacity,
            num_steps_sampled_before_learning_starts=1,
        )
    )


@pytest.mark.parametrize(
    ("needed", "setting"),
    [
        (1000, {"fragment": 100, "length": 100}),  # what was just played: one fragment of 10 environments
        (480, {"fragment": 8, "length": 20}),
        (160, {"fragment": 8, "length": 8, "num_env_runners": 2}),
        (320, {"fragment": 8, "length": 8, "num_env_runners": 3, "num_learners": 2}),
        (640, {"fragment": 8, "length": 8, "num_env_runners": 2, "num_learners": 4}),
        (1440, {"fragment": 8, "length": 20, "num_env_runners": 1, "num_learners": 3}),  # with gaps between
    ],
)
def test_that_a_replay_buffer_of_the_least_capacity_has_sequences(needed, setting):
    with pytest.raises(DistillError, match=rf"replay_capacity is {needed - 1}; .* at least {needed}\."):
        config(capacity=needed - 1, **setting).validate()
    made = config(capacity=needed, **setting)
    made.validate()
    assert sequences_in(made) >= ENVS


def sequences_in(config):
    """How many sequences the full buffer of the learner with the most env runners has, of one task."""
    learners = max(1, config.num_learners)
    runners = num_sources(1 % learners, learners, config.num_env_runners)
    turns = learners if config.num_env_runners < learners else 1  # who gets a runner's samples by turns
    buffer = ReplayBuffer(TASKS, capacity=config.replay_capacity // learners, num_env_runners=runners)
    observation = next(iter(config.task_set.values())).observation_space.sample()
    for i in range(10):
        for task in TASKS:
            rows = config.rollout_fragment_length
            first = observation[None].repeat(ENVS, axis=0)
            buffer.add(Fragment.empty(task, 1, i * rows * turns, rows, first))
    return buffer.num_sequences(config.sequences.length)
