"""Who acts: padding, legal actions, epsilon."""

from collections import Counter

import numpy as np
import pytest
import torch

from rllib_distill.env_runner.actors import (
    ExpertActor,
    JointActor,
    ModuleActor,
    RandomActor,
    epsilon_greedy,
    module_forward,
)
from rllib_distill.tasks import TaskSet

GAMES = {  # 3 to 6 actions, and 4 to 10 channels
    "freeway": "MinAtar/Freeway-v1",
    "seaquest": "MinAtar/Seaquest-v1",
    "invaders": "MinAtar/SpaceInvaders-v1",
    "asterix": "MinAtar/Asterix-v1",
}
B = 6


@pytest.fixture(scope="module")
def spaces():
    return TaskSet.from_config(GAMES).shared()


@pytest.fixture(scope="module")
def own_sizes(spaces):
    return {task: len(actions) for task, actions in spaces.common_actions.items()}


def observe(rng):
    channels = {"freeway": 7, "seaquest": 10, "invaders": 6, "asterix": 4}
    return {task: rng.random((B, 10, 10, c)) < 0.3 for task, c in channels.items()}


def by_hand(forward, spaces, task, observations):
    """The best legal common action, as the task's own number, one row at a time."""
    actions = []
    for observation in observations:
        padded = torch.from_numpy(spaces.pad(observation[None]))
        values = forward(padded, (task,))[0].tolist()
        own = spaces.common_actions[task].tolist()
        actions.append(max(range(len(own)), key=lambda a: values[own[a]]))
    return actions


def test_that_one_padded_forward_gives_what_each_row_gives_alone(spaces):
    torch.manual_seed(0)
    weights = torch.randn(1000, 6)
    calls = []

    def forward(observations, tasks):
        calls.append(len(observations))
        return observations.flatten(1).float() @ weights

    actor, rng = ModuleActor(forward, spaces, B), np.random.default_rng(0)
    for _ in range(4):  # the buffer is used again: nothing of the last call may be left in it
        observations = observe(rng)
        actions = actor(observations, 0.0, rng)
        for task in GAMES:
            assert actions[task].tolist() == by_hand(forward, spaces, task, observations[task])
    some = {task: observations[task] for task in ("asterix", "seaquest")}  # the others' episodes are over
    actions = actor(some, 0.0, rng)
    assert list(actions) == ["asterix", "seaquest"]
    for task, observation in some.items():
        assert actions[task].tolist() == by_hand(forward, spaces, task, observation)
    assert calls.count(4 * B) == 4


def test_that_an_illegal_action_is_never_the_best_however_good_it_looks(spaces, own_sizes):
    def forward(observations, tasks):  # the illegal ones are the best everywhere
        legal = np.repeat([spaces.legal_actions[task] for task in GAMES], B, axis=0)
        return torch.from_numpy(np.where(legal, -1e6, 1e6))

    rng = np.random.default_rng(0)
    actions = ModuleActor(forward, spaces, B)(observe(rng), 0.0, rng)
    assert all((actions[task] < own_sizes[task]).all() for task in GAMES)


@pytest.mark.parametrize("kind", ["module", "expert", "random"])
def test_that_random_actions_are_uniform_over_the_tasks_own(spaces, own_sizes, kind):
    rng = np.random.default_rng(0)
    actor = {
        "module": ModuleActor(lambda o, tasks: torch.zeros(len(o), 6), spaces, B),
        "expert": ExpertActor(lambda task, o: np.zeros((len(o), own_sizes[task]), np.float32)),
        "random": RandomActor(own_sizes),
    }[kind]
    observations, counts = observe(rng), {task: Counter() for task in GAMES}
    for _ in range(500):
        for task, actions in actor(observations, 1.0, rng).items():
            counts[task].update(actions.tolist())
    for task, n in own_sizes.items():
        assert set(counts[task]) == set(range(n))
        expected = 500 * B / n
        assert all(abs(count - expected) < 5 * np.sqrt(expected) for count in counts[task].values())


def test_that_epsilon_is_the_share_of_random_actions(spaces):
    rng = np.random.default_rng(0)
    module = ModuleActor(lambda o, tasks: torch.eye(6)[:1].repeat(len(o), 1), spaces, B)
    observations = {"seaquest": observe(rng)["seaquest"]}
    best = [(module(observations, 0.3, rng)["seaquest"] == 0).mean() for _ in range(1000)]
    assert np.mean(best) == pytest.approx(0.7 + 0.3 / 6, abs=0.03)
    greedy = epsilon_greedy(np.tile([0.0, 1.0, 0.0], (6000, 1)), 0.3, rng) == 1
    assert greedy.mean() == pytest.approx(0.7 + 0.3 / 3, abs=0.03)
    assert (epsilon_greedy(np.tile([0.0, 1.0, 0.0], (100, 1)), 0.0, rng) == 1).all()


def test_that_drawn_actions_follow_the_softmax_of_the_legal_values(spaces):
    torch.manual_seed(0)
    values, rng = torch.randn(1, 6), np.random.default_rng(0)
    actor = ModuleActor(lambda o, tasks: values.repeat(len(o), 1), spaces, B, draws=True)
    observations, counts = observe(rng), {task: Counter() for task in GAMES}
    for _ in range(1000):
        for task, actions in actor(observations, 0.0, rng).items():
            counts[task].update(actions.tolist())
    for task, own in spaces.common_actions.items():  # illegal actions are not in it at all
        expected = values[0, own].softmax(0).numpy() * 1000 * B
        observed = np.array([counts[task][a] for a in range(len(own))])
        assert observed.sum() == 1000 * B
        assert (abs(observed - expected) < 5 * np.sqrt(expected)).all()


def test_that_epsilon_is_on_top_of_drawn_actions(spaces, own_sizes):
    rng = np.random.default_rng(0)
    sure = ModuleActor(lambda o, tasks: 1e3 * torch.eye(6)[:1].repeat(len(o), 1), spaces, B, draws=True)
    observations = {"seaquest": observe(rng)["seaquest"]}
    best = [(sure(observations, 0.3, rng)["seaquest"] == 0).mean() for _ in range(1000)]
    assert np.mean(best) == pytest.approx(0.7 + 0.3 / own_sizes["seaquest"], abs=0.03)


def test_that_a_module_is_told_whose_rows_it_gets(spaces):
    class Module:
        def forward_inference(self, batch):
            told.append(batch["tasks"])
            return {"action_dist_inputs": torch.zeros(len(batch["obs"]), 6)}

    told, rng = [], np.random.default_rng(0)
    actor, observations = ModuleActor(module_forward(Module()), spaces, B), observe(rng)
    actor(observations, 0.0, rng)
    actor({"asterix": observations["asterix"]}, 0.0, rng)
    assert told == [tuple(GAMES), ("asterix",)]


def test_that_a_joint_actor_asks_each_groups_actor():
    def constant(number):
        return lambda observations, epsilon, rng: {task: np.full(2, number) for task in observations}

    actor = JointActor({("a", "c"): constant(1), ("b",): constant(2)})
    observations = dict.fromkeys("abc", np.zeros((2, 1)))
    actions = actor(observations, 0.0, np.random.default_rng(0))
    assert {task: a.tolist() for task, a in actions.items()} == {"a": [1, 1], "b": [2, 2], "c": [1, 1]}
    assert set(actor({"b": np.zeros((2, 1))}, 0.0, np.random.default_rng(0))) == {"b"}
