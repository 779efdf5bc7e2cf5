"""Two learners fed by two remote env runners, one of which dies."""

from pathlib import Path

import numpy as np
import pytest
import ray
import torch

from rllib_distill.core.optimizers import average_gradients

pytestmark = pytest.mark.usefixtures("ray_session")


@pytest.fixture(scope="module")
def algo(dqn, ray_session):
    config = dqn().debugging(seed=None).learners(num_learners=2).env_runners(num_env_runners=2)
    algo = config.build_algo()
    while not from_learners(algo, num_updates)[0]:
        algo.train()
    yield algo
    algo.stop()


def from_learners(algo, function):
    return [result.get() for result in algo.learner_group.foreach_learner(function)]


def num_updates(learner):
    return learner.num_updates


def weights_of(learner):
    modules = learner.module.values()
    return {f"{i}.{k}": v.detach().numpy() for i, m in enumerate(modules) for k, v in m.state_dict().items()}


def assert_same_weights(algo):
    first, second = from_learners(algo, weights_of)
    assert len(first) == 16  # two modules, each two layers, and their target networks
    assert all((first[name] == second[name]).all() for name in first)
    return first


def test_that_both_ranks_learn_the_same_from_different_samples(algo):
    before = assert_same_weights(algo)
    for _ in range(3):
        algo.train()
    after = assert_same_weights(algo)
    assert any((before[name] != after[name]).any() for name in before)
    assert len(set(from_learners(algo, num_updates))) == 1
    sources = from_learners(algo, lambda learner: [set(rings) for rings in learner.memory._rings.values()])
    assert sorted(map(str, sources)) == [
        "[{1}, {1}]",
        "[{2}, {2}]",
    ]  # each rank has one runner, and all tasks


def test_that_gradients_are_averaged_and_a_missing_one_counts_as_zeros(algo):
    def average(learner):
        parameters = [torch.nn.Parameter(torch.zeros(2)), torch.nn.Parameter(torch.zeros(3, 1))]
        parameters[1].grad = torch.full((3, 1), float(learner._learner_index + 1))
        if learner._learner_index == 0:
            parameters[0].grad = torch.tensor([1.0, 3.0])
        assert average_gradients(parameters)
        return [p.grad.flatten().tolist() for p in parameters]

    assert from_learners(algo, average) == [[[0.5, 1.5], [1.5, 1.5, 1.5]]] * 2


def test_that_ranks_count_by_their_weights(algo):
    def average(learner):
        parameter, is_first = torch.nn.Parameter(torch.zeros(2)), learner._learner_index == 0
        parameter.grad = torch.tensor([1.0, 4.0] if is_first else [5.0, 0.0])
        assert average_gradients([parameter], weight=3.0 if is_first else 1.0)
        return parameter.grad.tolist()

    assert from_learners(algo, average) == [[2.0, 3.0]] * 2


def test_that_there_is_no_step_where_nobody_has_a_minibatch(algo):
    def average(learner):
        parameters = [torch.nn.Parameter(torch.zeros(2))]
        return average_gradients(parameters, weight=0.0), parameters[0].grad.tolist()

    assert from_learners(algo, average) == [(False, [0.0, 0.0])] * 2


def test_that_a_minibatch_that_lacks_a_task_hangs_nobody(algo):
    def lose(learner):
        if learner._learner_index == 1:
            learner._update = lambda batch: type(learner)._update(learner, {"long": batch["long"]})

    def find(learner):
        learner.__dict__.pop("_update", None)

    before = assert_same_weights(algo)
    updates = from_learners(algo, num_updates)[0]
    from_learners(algo, lose)
    while from_learners(algo, num_updates)[0] < updates + 3:
        algo.train()
    from_learners(algo, find)
    after = assert_same_weights(algo)
    assert (
        before["0.network.head.weight"] != after["0.network.head.weight"]
    ).any()  # the other rank learned it


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
    def contents(learner):
        return [
            ring.take("rewards", np.arange(len(ring))).sum()
            for rings in learner.memory._rings.values()
            for ring in rings.values()
        ]

    def forget(learner):
        learner.memory._rings = {task: {} for task in learner.memory.tasks}

    before = from_learners(algo, contents)
    assert before[0] != before[1]
    algo.save_to_path(tmp_path)
    assert sorted(p.name for p in (tmp_path / "replay").iterdir()) == ["rank_0.pkl", "rank_1.pkl"]
    from_learners(algo, forget)
    algo.restore_from_path(tmp_path)
    assert from_learners(algo, contents) == before
    assert_same_weights(algo)


def test_that_training_survives_the_death_of_a_runner(algo):
    manager = algo.env_runner_group._worker_manager
    updates = from_learners(algo, num_updates)[0]
    ray.kill(manager.actors()[1], no_restart=False)
    for _ in range(200):
        algo.train()
        if from_learners(algo, num_updates)[0] > updates + 5 and manager.num_healthy_actors() == 2:
            break
    assert from_learners(algo, num_updates)[0] > updates + 5
    assert_same_weights(algo)


def test_that_a_learner_that_cannot_save_is_an_error(algo, tmp_path):  # the last: RLlib gives the learners up
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        algo._from_learners(lambda learner: learner.save_memory(Path(tmp_path / "file")))
