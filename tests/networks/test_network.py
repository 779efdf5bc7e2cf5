"""The network of all algorithms: its heads, values and LSTM against a slow loop over single steps."""

import copy

import pytest
import torch
from torch import nn

from rllib_distill.errors import DistillError
from rllib_distill.networks import PerTask, build_network, scale_outputs

MLP = {"type": "mlp", "hiddens": [8, 5]}
CONTROLLED = MLP | {"controller": 7}
MEMORY = MLP | {"lstm": 6}
EVERY_CONFIG = {
    "linear heads": MLP,
    "controller": CONTROLLED,
    "lstm": MEMORY,
    "lstm and controller": MEMORY | CONTROLLED,
}
ACTIONS = {"pong": 3, "free.way": 2, "qbert": 4}
TASKS = tuple(ACTIONS)
SHAPE = (3,)
N, T, B, A = 3, 7, 4, 4
each_config = pytest.mark.parametrize("config", EVERY_CONFIG.values(), ids=EVERY_CONFIG)
each_head = pytest.mark.parametrize("num_outputs", [A, ACTIONS], ids=["one head", "head per task"])


def rows(network, tasks=TASKS, first=0.3):
    """Observations, their tasks, a state that is not zero, and first steps at random."""
    n = len(tasks)
    is_first = torch.rand(n, T, B) < first
    return torch.randn(n, T, B, *SHAPE), tasks, torch.randn(n, B, network.state_size), is_first


def through(head, values):
    """A head's matrices written out."""
    for i, layer in enumerate([head] if isinstance(head, nn.Linear) else [head.controller, head.output]):
        values = layer.weight @ (values.relu() if i else values) + layer.bias
    return values


def torchs_lstm(network):
    lstm = nn.LSTM(network.torso.feature_size, network.state_size // 2)
    for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
        getattr(lstm, f"{name}_l0").data.copy_(getattr(network.core, name))
    return lstm


def step_by_step(network, observations, tasks, state, is_first):
    """Outputs, values and states of every row, one row of one environment at a time."""
    leading = observations.shape[:3]
    sizes = A, network.num_values, network.state_size
    outputs, values, states = (torch.zeros(*leading, size) for size in sizes)
    lstm = torchs_lstm(network) if network.state_size else None
    for n, task in enumerate(tasks):
        head = network.head[task] if isinstance(network.head, PerTask) else network.head
        for b in range(B):
            carried = state[n, b]
            for t in range(T):
                features = network.torso(observations[n, t, b][None])[0]
                if lstm is not None:
                    h, c = (torch.zeros_like(carried) if is_first[n, t, b] else carried).chunk(2)
                    _, (h, c) = lstm(features.view(1, 1, -1), (h.view(1, 1, -1), c.view(1, 1, -1)))
                    features, carried = h.flatten(), torch.cat([h.flatten(), c.flatten()])
                own = through(head, features)
                outputs[n, t, b, : len(own)], states[n, t, b] = own, carried
                if network.value_head is not None:
                    values[n, t, b] = through(network.value_head, features)
    return outputs, values, states


@each_config
@each_head
@pytest.mark.parametrize(
    ("tasks", "first", "num_values"),
    [(TASKS, 0.3, 2), (("qbert", "pong"), 1.0, 0), (("free.way",), 0.0, 1), (("pong", "pong"), 0.3, 2)],
)
def test_outputs_values_and_states_are_those_of_a_loop_over_single_steps(
    config, num_outputs, tasks, first, num_values
):
    network = build_network(config, SHAPE, num_outputs, num_values=num_values)
    assert (network.num_outputs, network.num_values) == (A, num_values)
    assert (network.state_size, network.feature_size) == ((12, 6) if "lstm" in config else (0, 5))
    given = rows(network, tasks, first)
    actual = network(*given)
    outputs, values, states = step_by_step(network, *given)
    torch.testing.assert_close(actual.outputs, outputs)  # 0 at the actions that a task does not have
    torch.testing.assert_close(actual.values, values)
    torch.testing.assert_close(actual.states, states)
    assert actual.features.shape == (len(tasks), T, B, network.feature_size)


TORSO, HEAD = (3 * 8 + 8) + (8 * 5 + 5), 5 * 4 + 4


@pytest.mark.parametrize(
    ("config", "num_outputs", "num_values", "count"),
    [
        (MLP, 4, 0, TORSO + HEAD),
        (MLP, 4, 2, TORSO + HEAD + (5 * 2 + 2)),
        (MLP, ACTIONS, 2, TORSO + (5 * 3 + 3) + (5 * 2 + 2) + HEAD + (5 * 2 + 2)),
        (CONTROLLED, 4, 1, TORSO + 2 * (5 * 7 + 7) + (7 * 4 + 4) + (7 + 1)),
        (MEMORY, 4, 1, TORSO + 4 * (5 * 6 + 6 * 6 + 2 * 6) + (6 * 4 + 4) + (6 + 1)),
        ({"type": "linear"}, 4, 1, (3 * 4 + 4) + (3 + 1)),
        ({"type": "tabular"}, 4, 1, 3 * 4 + 3),
    ],
)
def test_parameters_are_as_many_as_counted_by_hand(config, num_outputs, num_values, count):
    network = build_network(config, SHAPE, num_outputs, num_values=num_values)
    assert sum(p.numel() for p in network.parameters()) == count


@each_config
@each_head
def test_single_rows_are_first_steps_of_their_tasks_in_equal_chunks(config, num_outputs):
    network = build_network(config, SHAPE, num_outputs)
    observations, is_first = torch.randn(6, *SHAPE), torch.ones(N, 1, 2, dtype=torch.bool)
    outputs, features = network.of_rows(observations, TASKS)
    state = torch.randn(N, 2, network.state_size)
    expected = network(observations.view(N, 1, 2, *SHAPE), TASKS, state, is_first)
    assert torch.equal(outputs, expected.outputs.view(6, A))
    assert torch.equal(features, expected.features.view(6, network.feature_size))
    if num_outputs == A:
        torch.testing.assert_close(network.of_rows(observations), (outputs, features))


@each_config
def test_without_state_and_first_steps_rows_continue_from_a_state_of_zeros(config):
    network = build_network(config, SHAPE, A)
    observations, tasks, state, is_first = rows(network)
    explicit = network(observations, tasks, torch.zeros_like(state), torch.zeros_like(is_first))
    assert torch.equal(network(observations).outputs, explicit.outputs)
    assert torch.equal(network(observations).states, explicit.states)


@each_head
def test_nothing_of_the_past_reaches_an_episode_not_even_a_nan(num_outputs):
    network = build_network(MEMORY, SHAPE, num_outputs)
    observations, tasks, state, is_first = rows(network, first=0.0)
    is_first[:, 3] = True
    expected = network(observations[:, 3:], tasks, torch.zeros_like(state), is_first[:, 3:])
    said = network(observations, tasks, torch.full_like(state, torch.nan), is_first)
    assert said.features[:, :3].isnan().all()
    torch.testing.assert_close(said.outputs[:, 3:], expected.outputs)


def test_no_gradient_passes_the_first_step_of_an_episode():
    network = build_network(MEMORY, SHAPE, A)
    observations, tasks, state, is_first = rows(network, ("a", "b"), first=0.0)
    is_first[0, 3] = True
    observations.requires_grad_()
    network(observations, tasks, state, is_first).outputs[:, -1].square().sum().backward()
    reached = observations.grad.abs().sum((2, 3)) > 0
    assert reached.tolist() == [[False] * 3 + [True] * 4, [True] * 7]


@each_config
def test_only_the_heads_of_the_tasks_asked_for_get_gradients(config):
    network = build_network(config, SHAPE, ACTIONS, num_values=1)
    said = network(*rows(network, ("pong", "qbert")))
    (said.outputs.square().mean() + said.values.square().mean()).backward()
    without = {name for name, p in network.named_parameters() if p.grad is None}
    assert without == {name for name, _ in network.named_parameters() if name.startswith("head.of_free:way")}
    assert all(p.grad.any() for p in network.parameters() if p.grad is not None)


def test_weights_are_named_after_their_tasks():
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


def test_a_network_with_one_head_keeps_its_names_and_its_random_numbers():
    torch.manual_seed(3)
    torso, head = nn.Linear(3, 5), nn.Linear(5, 6)
    torch.manual_seed(3)
    weights = build_network({"type": "mlp", "hiddens": [5]}, SHAPE, 6).state_dict()
    assert list(weights) == ["torso.layers.0.weight", "torso.layers.0.bias", "head.weight", "head.bias"]
    assert torch.equal(weights["torso.layers.0.weight"], torso.weight)
    assert torch.equal(weights["head.weight"], head.weight)


@pytest.mark.parametrize("name", ["values", "forward", "training", "a.b", "of_a", "2.0"])
def test_a_task_may_have_any_name(name):
    modules, copied = (PerTask({name: nn.Linear(2, 3), "a_b": nn.Linear(2, 4)}) for _ in range(2))
    assert modules[name].out_features == 3 and modules["a_b"].out_features == 4
    copied.load_state_dict(modules.state_dict())
    for clone in (copied, copy.deepcopy(modules)):
        assert torch.equal(clone[name].weight, modules[name].weight)


@each_config
@each_head
def test_mixed_precision_is_for_the_torso_only_whatever_is_around_the_network(config, num_outputs):
    network = build_network(config, SHAPE, num_outputs, num_values=1)
    mixed = build_network(config, SHAPE, num_outputs, num_values=1, mixed_precision=True)
    mixed.load_state_dict(network.state_dict())
    given = rows(network)
    said, expected = mixed(*given), network(*given)
    for name in ("outputs", "features", "values", "states"):
        assert getattr(said, name).dtype == torch.float32
        torch.testing.assert_close(getattr(said, name), getattr(expected, name), rtol=0.05, atol=0.02)
    assert not torch.equal(said.outputs, expected.outputs)
    # The heads saw and the LSTM made what bfloat16 cannot hold.
    assert torch.equal(said.features, said.features.bfloat16().float()) == ("lstm" not in config)
    torch.testing.assert_close(said.values[0, 0, 0], through(network.value_head, said.features[0, 0, 0]))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(mixed(*given).outputs, said.outputs)
        assert torch.equal(network(*given).outputs, expected.outputs)


@pytest.mark.parametrize("without_gradients", [torch.no_grad, torch.inference_mode])
def test_a_forward_without_gradients_does_not_take_them_from_the_next(without_gradients):
    network = build_network(MLP, SHAPE, A, mixed_precision=True)
    with without_gradients():
        network.of_rows(torch.rand(4, *SHAPE))
    network.of_rows(torch.rand(4, *SHAPE))[0].sum().backward()
    assert all(p.grad is not None for p in network.parameters())


@pytest.fixture
def no_graphs():
    """Torch compiles the same function so often and no more in one process."""
    torch.compiler.reset()


@pytest.mark.usefixtures("no_graphs")
def test_a_compiled_network_is_one_graph_per_set_of_tasks():
    network = build_network(MEMORY | CONTROLLED, SHAPE, ACTIONS, num_values=1)
    plain = copy.deepcopy(network)
    # The 'eager' backend traces all and then runs torch's own.
    network.compile(backend="eager", fullgraph=True, dynamic=False)
    for tasks in [("pong", "qbert"), ("free.way",), ("qbert", "pong")]:
        observations, _, state, is_first = rows(network, tasks)
        given = observations[:, :2], tasks, state, is_first[:, :2]
        torch.testing.assert_close(network(*given).outputs, plain(*given).outputs)


@pytest.mark.usefixtures("no_graphs")
def test_a_compiled_network_with_one_head_is_the_same_for_all_tasks():
    network = build_network(MLP, SHAPE, 6)
    network.compile(backend="eager", fullgraph=True)
    observations, _, state, is_first = rows(network, ("a", "b"))
    network(observations, ("a", "b"), state, is_first)
    with torch.compiler.set_stance("fail_on_recompile"):
        network(observations, ("b", "c"), state, is_first)


def test_a_table_is_one_number_per_state_and_output():
    network = build_network({"type": "tabular"}, (5,), 3, num_values=1)
    one_hots = torch.eye(5).view(1, 5, 1, 5).bool()
    assert not network(one_hots).outputs.any() and not network(one_hots).values.any()
    optimizer = torch.optim.SGD(network.parameters(), lr=1.0)
    said = network(one_hots)
    (said.outputs[0, 2, 0, 1] + said.values[0, 4, 0, 0]).backward()
    optimizer.step()
    expected = torch.zeros(5, 3)
    expected[2, 1] = -1.0
    assert torch.equal(network(one_hots).outputs[0, :, 0], expected)
    assert network(one_hots).values.flatten().tolist() == [0.0, 0.0, 0.0, 0.0, -1.0]


@pytest.mark.parametrize("num_outputs", [3, {"a": 3, "b": 2}])
def test_a_table_starts_at_zero_and_has_no_bias(num_outputs):
    network = build_network({"type": "tabular"}, (5,), num_outputs)
    outputs, features = network.of_rows(torch.eye(5)[:4], ("a", "b"))
    assert not outputs.any() and torch.equal(features, torch.eye(5)[:4])
    assert all(name.endswith("weight") for name in network.state_dict())


@pytest.mark.parametrize("config", [*EVERY_CONFIG.values(), {"type": "tabular"}])
def test_outputs_scaled_to_zero_learn_all_the_same(config):
    network = build_network(config, SHAPE, A)
    scale_outputs(network, 0.0)
    given = rows(network)
    assert torch.equal(network(*given).outputs, torch.zeros(N, T, B, A))
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        network(*given).outputs[..., 0].sum().backward()
        optimizer.step()
    assert all(parameter.grad.any() for parameter in network.parameters())


def test_outputs_are_scaled_by_their_factor_and_nothing_else_is():
    network = build_network(CONTROLLED, SHAPE, A, num_values=1)
    given = rows(network)
    before = network(*given)
    scale_outputs(network, 0.25)
    torch.testing.assert_close(network(*given).outputs, 0.25 * before.outputs)
    assert torch.equal(network(*given).values, before.values)
    assert torch.equal(network(*given).features, before.features)


@pytest.mark.parametrize(
    ("tasks", "says"),
    [
        (None, "one head per task needs the names of the tasks; got None for rows of 1"),
        ((), r"got \(\) for rows of 1"),
        (("pong",) * 4, "equal chunks, task by task: got 6 rows of 4 tasks"),
        (("pomg",), "no part for the task 'pomg'. Did you mean 'pong'.*free.way, pong, qbert"),
    ],
)
def test_rows_of_nobody_end_in_one_line(tasks, says):
    network = build_network(MLP, SHAPE, ACTIONS)
    with pytest.raises(DistillError, match=says) as error:
        network.of_rows(torch.zeros(6, *SHAPE), tasks)
    assert "\n" not in str(error.value)


def test_names_of_fewer_tasks_than_rows_are_of_are_refused():
    network = build_network(MEMORY, SHAPE, ACTIONS)
    observations, _, state, is_first = rows(network)
    with pytest.raises(DistillError, match=r"got \('pong',\) for rows of 3"):
        network(observations, ("pong",), state, is_first)
