"""Two learners fed by two remote env runners, one of which dies."""

import os
import pickle
import signal
from functools import partial

import pytest
import torch
from torch import distributed

from rllib_distill.core.optimizers import average_gradients
from tests.learners import from_learners, is_same, num_updates, weights_of

pytestmark = pytest.mark.usefixtures("ray_session")


@pytest.fixture(scope="module")
def algo(dqn, ray_session):
    config = dqn().debugging(seed=None).learners(num_learners=2).env_runners(num_env_runners=2)
    algo = config.build_algo()
    while not from_learners(algo, num_updates)[0]:
        algo.train()
    yield algo
    algo.stop()


def stored_in(folder):
    """Rank -> task -> env runner -> what the checkpoint in this folder has of the rank's ring."""
    rings = {}
    for path in sorted((folder / "replay").iterdir()):
        with path.open("rb") as file:
            rings[path.stem] = pickle.load(file)["rings"]
    return rings


def assert_same_weights(algo):
    first, second = from_learners(algo, weights_of)
    assert len(first) == 16  # two modules, each two layers, and their target networks
    assert is_same(first, second)
    return first


def test_that_both_ranks_learn_the_same_from_different_samples(algo, tmp_path):
    before = assert_same_weights(algo)
    for _ in range(3):
        algo.train()
    after = assert_same_weights(algo)
    assert any((before[name] != after[name]).any() for name in before)
    assert len(set(from_learners(algo, num_updates))) == 1
    algo.save_to_path(tmp_path)
    runners = [{task: set(rings) for task, rings in rank.items()} for rank in stored_in(tmp_path).values()]
    # Each rank has one runner, and all tasks.
    assert sorted(runners, key=str) == [{"short": {i}, "long": {i}} for i in (1, 2)]


def test_that_gradients_are_averaged_by_weight_and_a_missing_one_counts_as_zeros(algo):
    """Weights are the numbers of rows; there is no step where nobody has any."""

    def average(learner, weights):
        parameters = [torch.nn.Parameter(torch.zeros(2)), torch.nn.Parameter(torch.zeros(3, 1))]
        rank = distributed.get_rank()
        parameters[1].grad = torch.full((3, 1), float(rank + 1))
        if rank == 0:
            parameters[0].grad = torch.tensor([1.0, 3.0])
        is_step = average_gradients(parameters, weight=weights[rank])
        return is_step and [p.grad.flatten().tolist() for p in parameters]

    for weights, expected in (
        ((1.0, 1.0), [[0.5, 1.5], [1.5] * 3]),
        ((3.0, 1.0), [[0.75, 2.25], [1.25] * 3]),
        ((0.0, 0.0), False),
    ):
        assert from_learners(algo, partial(average, weights=weights)) == [expected] * 2


def test_that_a_minibatch_that_lacks_a_task_hangs_nobody(algo):
    def lose(learner):
        if distributed.get_rank() == 1:
            draw = type(learner).draw_minibatch
            learner.draw_minibatch = lambda: {"long": draw(learner)["long"]}

    def find(learner):
        learner.__dict__.pop("draw_minibatch", None)

    before = assert_same_weights(algo)
    updates = from_learners(algo, num_updates)[0]
    from_learners(algo, lose)
    while from_learners(algo, num_updates)[0] < updates + 3:
        algo.train()
    from_learners(algo, find)
    after = assert_same_weights(algo)
    head = "short.network.head.weight"
    assert (before[head] != after[head]).any()  # the other rank learned it


def test_that_runners_act_with_what_was_learned(algo):
    algo.env_runner_group.sync_weights(from_worker_or_learner_group=algo.learner_group, timeout_seconds=None)
    learned = from_learners(
        algo, lambda learner: learner.module["long"].network.head.weight.detach().numpy()
    )[0]
    acting = algo.env_runner_group.foreach_env_runner(
        lambda runner: runner.module["long"].network.head.weight.detach().numpy(), local_env_runner=False
    )
    assert len(acting) == 2
    assert all((weight == learned).all() for weight in acting)
    steps = algo.env_runner_group.foreach_env_runner(
        lambda runner: runner.num_env_steps_sampled_lifetime, local_env_runner=False
    )
    assert all(step > 0 for step in steps)  # epsilon's schedule goes on there


def test_that_every_rank_saves_and_restores_its_own_replay(algo, tmp_path):
    def draw(learner):
        return [learner.draw_minibatch()[task].observations.sum().item() for task in ("short", "long") * 3]

    algo.save_to_path(tmp_path)
    drawn = from_learners(algo, draw)
    saved = stored_in(tmp_path)
    assert list(saved) == ["rank_0", "rank_1"]
    rewards = [
        [ring["columns"]["rewards"][0].sum() for rings in rank.values() for ring in rings.values()]
        for rank in saved.values()
    ]
    assert rewards[0] != rewards[1]
    for _ in range(2):
        algo.train()
    assert from_learners(algo, draw) != drawn
    algo.restore_from_path(tmp_path)
    assert from_learners(algo, draw) == drawn
    assert_same_weights(algo)


def test_that_training_survives_the_death_of_a_runner(algo):
    group, updates = algo.env_runner_group, from_learners(algo, num_updates)[0]

    def pids():
        return group.foreach_env_runner(lambda runner: os.getpid(), local_env_runner=False)

    alive, dead = pids()
    os.kill(dead, signal.SIGKILL)
    for _ in range(200):
        algo.train()
        is_restarted = group.num_remote_worker_restarts() and group.num_healthy_remote_env_runners() == 2
        if is_restarted and from_learners(algo, num_updates)[0] > updates + 5:
            break
    assert from_learners(algo, num_updates)[0] > updates + 5
    now = set(pids())
    assert len(now) == 2 and alive in now and dead not in now
    assert_same_weights(algo)


def test_that_a_learner_that_cannot_save_is_an_error(algo, tmp_path):  # the last: RLlib gives the learners up
    (tmp_path / "replay").touch()
    with pytest.raises(OSError, match="replay"):
        algo.save_to_path(tmp_path)
