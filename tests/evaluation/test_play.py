"""Playing for scores."""

import pytest

from rllib_distill.errors import DistillError
from rllib_distill.evaluation.play import play, play_in_parallel, random_actor
from rllib_distill.tasks import TaskSet


@pytest.fixture(scope="module")
def tasks():
    return TaskSet.from_config({"pole": "CartPole-v1", "breakout": "MinAtar/Breakout-v1"})


def play_randomly(tasks, seed, epsilon=0.0):
    return play(tasks, random_actor(tasks), num_envs=4, num_episodes=10, epsilon=epsilon, seed=seed)


def test_that_every_task_is_played_as_often_as_asked(tasks):
    scores = play_randomly(tasks, seed=0)
    assert {task: len(played.returns) for task, played in scores.items()} == {"pole": 10, "breakout": 10}
    assert scores["pole"].returns == tuple(map(float, scores["pole"].lengths))  # a reward of 1 per step


def test_that_a_seed_decides_everything(tasks):
    assert play_randomly(tasks, seed=1) == play_randomly(tasks, seed=1)
    assert play_randomly(tasks, seed=1) != play_randomly(tasks, seed=2)


def test_that_an_epoch_is_what_ends_in_so_many_steps(tasks):
    scores = play(tasks, random_actor(tasks), num_envs=1, num_steps=200, epsilon=0.0, seed=0)
    for played in scores.values():
        assert played.finished and played.env_steps() == 200
        assert 100 < sum(played.lengths) <= 200  # neither game lasts 100 steps at random
    assert scores["pole"].returns == tuple(map(float, scores["pole"].lengths))


@pytest.mark.parametrize("amount", [{}, {"num_episodes": 1, "num_steps": 1}])
def test_that_either_episodes_or_steps_are_asked_for(tasks, amount):
    with pytest.raises(DistillError, match="exactly one of them"):
        play(tasks, random_actor(tasks), num_envs=1, epsilon=0.0, seed=0, **amount)


@pytest.mark.usefixtures("ray_session")
def test_that_playing_in_parallel_is_playing():
    tasks = TaskSet.from_config({"pole": "CartPole-v1"})
    options = {"num_episodes": 5, "epsilon": 0.01, "seed": 3}
    heard = []
    policies = {"random": random_actor, "another": random_actor}
    scores = play_in_parallel(
        policies, tasks, **options, on_progress=lambda *progress: heard.append(progress)
    )
    assert heard == [(0, 2), (1, 2), (2, 2)]
    assert list(scores) == ["random", "another"]
    alone = play(tasks, random_actor(tasks), num_envs=5, **options)
    assert scores["random"] == scores["another"] == alone
    # An epoch is played in one environment.
    options = {"num_steps": 90, "epsilon": 0.0, "seed": 3}
    scores = play_in_parallel({"random": random_actor}, tasks, **options)
    assert scores["random"] == play(tasks, random_actor(tasks), num_envs=1, **options)
