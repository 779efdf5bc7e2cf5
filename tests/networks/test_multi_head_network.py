"""One head per task: whose rows go where, padding, names of weights, and compiling."""

import copy

import pytest
import torch
from torch import nn

from rllib_distill.errors import DistillError
from rllib_distill.networks import MultiHeadNetwork, Network, PerTask, build_network

MLP = {"type": "mlp", "hiddens": [8, 5]}
SHAPE = (3,)
ACTIONS = {"pong": 3, "free.way": 2, "qbert": 4}
CONTROLLED = MLP | {"controller": 7}
each_config = pytest.mark.parametrize("config", [MLP, CONTROLLED], ids=["linear", "controller"])


def outputs_one_by_one(network, observations, tasks):
    """Each row on its own, its head's matrices written out; 0 where the task has no action."""
    rows = torch.zeros(len(observations), 4)
    for i, observation in enumerate(observations):
        task = tasks[i * len(tasks) // len(observations)]
        values = network.torso(observation[None])[0]
        head = network.head[task]
        layers = [head] if isinstance(head, nn.Linear) else [head.controller, head.output]
        for j, layer in enumerate(layers):
            values = layer.weight @ (values.relu() if j else values) + layer.bias
        rows[i, : ACTIONS[task]] = values
    return rows


@each_config
@pytest.mark.parametrize(
    "tasks", [("pong", "free.way", "qbert"), ("qbert", "pong"), ("free.way",), ("qbert",), ("pong", "pong")]
)
def test_that_every_row_goes_through_its_tasks_head_only(config, tasks):
    network = build_network(config, SHAPE, ACTIONS)
    observations = torch.randn(4 * len(tasks), *SHAPE)
    outputs, features = network(observations, tasks)
    torch.testing.assert_close(outputs, outputs_one_by_one(network, observations, tasks))
    assert torch.equal(features, network.torso(observations))
    assert network.feature_size == 5


def test_that_further_columns_are_exactly_zero_and_nothing_learns_from_them():
    network = build_network(MLP, SHAPE, ACTIONS)
    outputs, _ = network(torch.randn(4, *SHAPE), ("pong", "free.way"))
    assert torch.equal(outputs[:2, 3:], torch.zeros(2, 1)) and torch.equal(outputs[2:, 2:], torch.zeros(2, 2))
    (outputs[:2, 3:].sum() + outputs[2:, 2:].sum()).backward()
    assert all(p.grad is None or not p.grad.any() for p in network.parameters())


@each_config
def test_that_only_the_heads_of_a_batchs_tasks_get_gradients(config):
    network = build_network(config, SHAPE, ACTIONS)
    network(torch.randn(16, *SHAPE), ("pong", "qbert"))[0].square().sum().backward()
    with_gradient = {
        task for task in ACTIONS if all(p.grad is not None for p in network.head[task].parameters())
    }
    assert with_gradient == {"pong", "qbert"}
    assert all(p.grad is None for p in network.head["free.way"].parameters())
    assert all(p.grad is not None for p in network.torso.parameters())


def test_that_weights_are_named_after_their_tasks():
    linear = build_network(MLP, SHAPE, ACTIONS).state_dict()
    assert {name: tuple(w.shape) for name, w in linear.items() if name.startswith("head.")} == {
        "head.of_pong.weight": (3, 5),
        "head.of_pong.bias": (3,),
        "head.of_free:way.weight": (2, 5),
        "head.of_free:way.bias": (2,),
        "head.of_qbert.weight": (4, 5),
        "head.of_qbert.bias": (4,),
    }
    controlled = build_network(CONTROLLED, SHAPE, {"pong": 3}).state_dict()
    assert [name for name in controlled if name.startswith("head.")] == [
        "head.of_pong.controller.weight",
        "head.of_pong.controller.bias",
        "head.of_pong.output.weight",
        "head.of_pong.output.bias",
    ]


def test_that_a_network_with_one_head_keeps_its_names_and_its_random_numbers():
    torch.manual_seed(3)
    torso, head = nn.Linear(3, 5), nn.Linear(5, 6)
    torch.manual_seed(3)
    weights = build_network({"type": "mlp", "hiddens": [5]}, SHAPE, 6).state_dict()
    assert list(weights) == ["torso.layers.0.weight", "torso.layers.0.bias", "head.weight", "head.bias"]
    assert torch.equal(weights["torso.layers.0.weight"], torso.weight)
    assert torch.equal(weights["head.weight"], head.weight)


def test_that_one_head_with_a_controller_takes_no_notice_of_tasks():
    network = build_network(CONTROLLED, SHAPE, 6)
    assert sum(p.numel() for p in network.head.parameters()) == (5 * 7 + 7) + (7 * 6 + 6)
    observations = torch.randn(4, *SHAPE)
    outputs, features = network(observations)
    hidden = (features @ network.head.controller.weight.T + network.head.controller.bias).relu()
    torch.testing.assert_close(outputs, hidden @ network.head.output.weight.T + network.head.output.bias)
    assert torch.equal(network(observations, ("any", "task"))[0], outputs)


@pytest.mark.parametrize("name", ["values", "forward", "training", "a.b", "of_a", "2.0"])
def test_that_a_task_may_have_any_name(name):
    modules, copied = (PerTask({name: nn.Linear(2, 3), "a_b": nn.Linear(2, 4)}) for _ in range(2))
    assert modules[name].out_features == 3 and modules["a_b"].out_features == 4
    copied.load_state_dict(modules.state_dict())
    for clone in (copied, copy.deepcopy(modules)):
        assert torch.equal(clone[name].weight, modules[name].weight)


def test_that_mixed_precision_is_for_the_torso_only():
    network = build_network(CONTROLLED, SHAPE, ACTIONS)
    mixed = build_network(CONTROLLED, SHAPE, ACTIONS, mixed_precision=True)
    mixed.load_state_dict(network.state_dict())
    observations = torch.randn(6, *SHAPE)
    outputs, features = mixed(observations, tuple(ACTIONS))
    assert outputs.dtype == features.dtype == torch.float32
    assert torch.equal(features, features.bfloat16().float())
    assert torch.equal(outputs, network.outputs(features, tuple(ACTIONS)))  # the heads saw float32
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(mixed(observations, tuple(ACTIONS))[0], outputs)


@each_config
def test_that_a_compiled_network_is_one_graph_per_set_of_tasks(config):
    network = build_network(config, SHAPE, ACTIONS)
    plain = copy.deepcopy(network)
    # As NetworkRLModule compiles every Network. The 'eager' backend traces all and then runs torch's own.
    assert isinstance(network, Network) and isinstance(network, MultiHeadNetwork)
    network.compile(backend="eager", fullgraph=True)
    for tasks in [("pong", "qbert"), ("free.way",), ("qbert", "pong"), ("pong", "qbert")]:
        observations = torch.randn(4, *SHAPE)
        for compiled, expected in zip(network(observations, tasks), plain(observations, tasks), strict=True):
            torch.testing.assert_close(compiled, expected)


def test_that_a_compiled_network_with_one_head_is_the_same_for_all_tasks():
    network = build_network(MLP, SHAPE, 6)
    network.compile(backend="eager", fullgraph=True)
    observations = torch.randn(4, *SHAPE)
    network(observations, ("a",))
    with torch.compiler.set_stance("fail_on_recompile"):
        network(observations, ("b", "c"))


@pytest.mark.parametrize(
    ("tasks", "says"),
    [
        (None, "needs the tasks of its rows.*got tasks None for 6 rows"),
        ((), r"got tasks \(\) for 6 rows"),
        (("pong",) * 4, "equal chunks.*for 6 rows"),
        (("pomg",), "no part for the task 'pomg'. Did you mean 'pong'.*free.way, pong, qbert"),
    ],
)
def test_that_rows_of_nobody_end_in_one_line(tasks, says):
    network = build_network(MLP, SHAPE, ACTIONS)
    with pytest.raises(DistillError, match=says) as error:
        network(torch.zeros(6, *SHAPE), tasks)
    assert "\n" not in str(error.value)
