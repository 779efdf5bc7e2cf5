"""Who acts: padding, legal actions, epsilon; experts, chance, several actors as one."""

from collections import Counter

import numpy as np
import pytest
import torch

from rllib_distill.core.rl_module import acting_forward
from rllib_distill.env_runner.actors import (
    Acting,
    ExpertActor,
    JointActor,
    NetworkActor,
    RandomActor,
    epsilon_greedy,
)
from rllib_distill.experts import ExpertBank
from rllib_distill.tasks import TaskSet
from tests.env_runner.counting_env import NAMED_TASKS, save_random_experts
from tests.env_runner.toy_policies import Always, rows_of

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


def observe(rng):
    channels = {"freeway": 7, "seaquest": 10, "invaders": 6, "asterix": 4}
    return {task: rows_of(rng.random((B, 10, 10, c)) < 0.3, begins=False) for task, c in channels.items()}


def act(actor, rows, epsilon, rng):
    return Acting(actor, rows)(rows, epsilon, rng).actions


def by_hand(forward, spaces, task, observations):
    """The best legal common action, as the task's own number, one row at a time."""
    actions = []
    for observation in observations:
        padded = torch.from_numpy(spaces.pad(observation[None]))
        values = forward(padded[None, None], (task,), None, None)[0][0, 0].tolist()
        own = spaces.common_actions[task].tolist()
        actions.append(max(range(len(own)), key=lambda a: values[own[a]]))
    return actions


def test_that_one_padded_forward_gives_what_each_row_gives_alone(spaces):
    torch.manual_seed(0)
    weights = torch.randn(1000, 6)
    calls = []

    def forward(observations, tasks, state, is_first):
        calls.append(tuple(observations.shape[:3]))
        return observations[:, 0].flatten(2).float() @ weights, state

    actor, rng = NetworkActor(forward, spaces), np.random.default_rng(0)
    for _ in range(4):  # the buffer is used again: nothing of the last call may be left in it
        rows = observe(rng)
        actions = act(actor, rows, 0.0, rng)
        for task in GAMES:
            assert actions[task].tolist() == by_hand(forward, spaces, task, rows[task].observations)
    some = {task: rows[task] for task in ("asterix", "seaquest")}  # the others' episodes are over
    actions = act(actor, some, 0.0, rng)
    assert list(actions) == ["asterix", "seaquest"]
    for task, row in some.items():
        assert actions[task].tolist() == by_hand(forward, spaces, task, row.observations)
    assert calls.count((4, 1, B)) == 4 and calls.count((2, 1, B)) == 1


def test_that_chance_is_uniform_over_the_tasks_own_actions():
    own_sizes, rng = {"a": 3, "b": 6}, np.random.default_rng(0)
    rows, counts = {task: rows_of(np.zeros((B, 1))) for task in "ab"}, {task: Counter() for task in "ab"}
    actor = RandomActor(own_sizes)
    for _ in range(500):
        for task, actions in act(actor, rows, 0.0, rng).items():
            counts[task].update(actions.tolist())
    for task, n in own_sizes.items():
        check_uniform(counts[task], n, 500 * B)


def check_uniform(counts, n, draws):
    assert set(counts) == set(range(n))
    expected = draws / n
    assert all(abs(count - expected) < 5 * np.sqrt(expected) for count in counts.values())


def test_that_epsilon_is_the_share_of_random_actions():
    rng = np.random.default_rng(0)
    greedy = epsilon_greedy(np.tile([0.0, 1.0, 0.0], (6000, 1)), 0.3, rng) == 1
    assert greedy.mean() == pytest.approx(0.7 + 0.3 / 3, abs=0.03)
    assert (epsilon_greedy(np.tile([0.0, 1.0, 0.0], (100, 1)), 0.0, rng) == 1).all()


def test_that_a_module_is_told_whose_rows_it_gets_and_where_episodes_begin(spaces):
    class Module:
        def forward_inference(self, batch):
            told.append(
                (batch["tasks"], batch["is_first"].tolist(), tuple(batch["state_in"].shape), batch["who"])
            )
            shape = batch["obs"].shape
            return {"action_dist_inputs": torch.zeros(shape[0], shape[2], 6), "state_out": batch["state_in"]}

    told, rng = [], np.random.default_rng(0)
    actor, rows = NetworkActor(acting_forward(Module(), who="me"), spaces), observe(rng)
    act(actor, rows, 0.0, rng)
    rows["asterix"].is_first[2] = True
    act(actor, {"asterix": rows["asterix"]}, 0.0, rng)
    nowhere, once = [False] * B, [False, False, True, False, False, False]
    assert told == [
        (tuple(GAMES), [[nowhere]] * 4, (4, B, 0), "me"),
        (("asterix",), [[once]], (1, B, 0), "me"),
    ]


# -- several actors as one ---------------------------------------------------------------------------------


@pytest.mark.parametrize("sizes", [(0, 0), (2, 0), (0, 2), (1, 2)], ids=str)
def test_that_a_joint_actor_asks_each_groups_actor(sizes):
    actor = JointActor({("a", "c"): Always(1, sizes[0]), ("b",): Always(2, sizes[1])})
    rows, rng = {task: rows_of(np.zeros((2, 1))) for task in "abc"}, np.random.default_rng(0)
    acting = Acting(actor, rows)
    acted = acting(rows, 0.0, rng)
    assert {task: a.tolist() for task, a in acted.actions.items()} == {"a": [1, 1], "b": [2, 2], "c": [1, 1]}
    assert [list(acted.columns[task]) for task in "abc"] == [["of_1"], ["of_2"], ["of_1"]]
    assert set(acting({"b": rows["b"]}, 0.0, rng).actions) == {"b"}
    acting(rows, 0.0, rng)
    asked = {"a": 2, "b": 3, "c": 2}
    for task, state in acting.state.items():
        assert state.shape == (2, sizes[task == "b"]) and (state == asked[task]).all()


# -- experts -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=[None, 3], ids=["plain", "recurrent"])
def experts(request, tmp_path_factory):
    network = {"type": "mlp", "hiddens": [8], "lstm": request.param}
    paths = save_random_experts(tmp_path_factory.mktemp("experts"), NAMED_TASKS, network=network)
    return ExpertBank.load(paths, TaskSet.from_config(NAMED_TASKS))


def expert_rows(rng, task):
    size = NAMED_TASKS[task]["env_config"]["size"]
    return rows_of(rng.normal(size=(B, size)).astype(np.float32), begins=False)


@pytest.mark.parametrize("columns", [(), ("expert_outputs",), ("expert_outputs", "expert_features")], ids=str)
def test_that_experts_take_their_best_actions_and_tell_what_they_said(experts, columns):
    rng = np.random.default_rng(0)
    steps = [{task: expert_rows(rng, task) for task in NAMED_TASKS} for _ in range(5)]
    steps[0]["short"].is_first[:] = steps[3]["short"].is_first[1] = True
    acting = Acting(ExpertActor(experts, columns), steps[0])
    told = [acting(rows, 0.0, rng) for rows in steps]
    for task in NAMED_TASKS:
        observations = np.stack([rows[task].observations for rows in steps])
        is_first = np.stack([rows[task].is_first for rows in steps])
        label = experts.label(task, observations, None, is_first)
        said = {"expert_outputs": label.outputs, "expert_features": label.features}
        for t, acted in enumerate(told):
            assert acted.columns[task].keys() == set(columns)
            for name in columns:
                np.testing.assert_allclose(acted.columns[task][name], said[name][t], rtol=1e-5, atol=1e-6)
            np.testing.assert_array_equal(acted.actions[task], label.outputs[t].argmax(-1))
        torch.testing.assert_close(acting.state[task], label.state)


def test_that_experts_explore_their_tasks_own_actions(experts):
    rng, counts = np.random.default_rng(0), {task: Counter() for task in NAMED_TASKS}
    rows = {task: expert_rows(rng, task) for task in NAMED_TASKS}
    acting = Acting(ExpertActor(experts), rows)
    for _ in range(300):
        for task, actions in acting(rows, 1.0, rng).actions.items():
            counts[task].update(actions.tolist())
    for task, n in (("short", 2), ("long", 4)):
        check_uniform(counts[task], n, 300 * B)
