"""Networks side by side against each network alone: outputs, gradients, cost, and weights that change."""

import copy
import pickle
import time

import pytest
import torch

from rllib_distill.core.optimizers import make_optimizer
from rllib_distill.errors import DistillError
from rllib_distill.networks import StackedNetworks, build_network

MLP = {"type": "mlp", "hiddens": [8, 5]}
MEMORY = MLP | {"lstm": 6}
MINATAR = {"type": "minatar_cnn", "filters": 4, "hidden": 7}
N, T, B, A = 3, 4, 2, 5
EVERY_TORSO = {
    "mlp": (MLP, (3, 2)),
    "minatar_cnn": (MINATAR, (6, 5, 3)),
    "one channel": (MINATAR, (5, 5, 1)),
    "cnn": ({"type": "cnn", "convs": [[6, 4, 2], [4, 3, 1]], "hiddens": [11, 7]}, (17, 20, 3)),
    "nature_cnn": ({"type": "nature_cnn", "filters": [4, 6, 2], "hidden": 9}, (36, 40, 4)),
    "linear": ({"type": "linear"}, (3, 2)),
    "controller": (MLP | {"controller": 7}, (3,)),
    "tabular": ({"type": "tabular"}, (7,)),
    "a user's own": ({"type": "tests.networks.my_torso:MyTorso"}, (3, 2)),
}
each_torso = pytest.mark.parametrize("torso", EVERY_TORSO)
WITH_AND_WITHOUT_LSTM = EVERY_TORSO | {
    f"{name} and lstm": (config | {"lstm": 6}, shape)
    for name, (config, shape) in EVERY_TORSO.items()
    if name != "tabular"
}


def build(config, shape, num_networks=N, num_values=1, **options):
    networks = [
        build_network(config, shape, A, num_values=num_values, **options) for _ in range(num_networks)
    ]
    for network in networks:
        for parameter in network.parameters():  # tables too shall differ
            parameter.data.add_(0.1 * torch.randn_like(parameter))
    return networks


def rows(network, shape, num_networks=N):
    observations = torch.rand(num_networks, T, B, *shape) < 0.4
    is_first = torch.rand(num_networks, T, B) < 0.3
    return observations, torch.randn(num_networks, B, network.state_size), is_first


def alone(networks, observations, state, is_first):
    """Each network on its own rows, as one network of one task."""
    for n, network in enumerate(networks):
        yield network(observations[n][None], None, state[n][None], is_first[n][None])


def assert_as_alone(networks, stacked, given, *, rtol=1e-5, atol=1e-5):
    together = stacked(*given)
    for n, expected in enumerate(alone(networks, *given)):
        for name in ("outputs", "features", "values", "states"):
            actual, single = getattr(together, name)[n], getattr(expected, name)[0]
            assert actual.dtype == torch.float32
            torch.testing.assert_close(actual, single, rtol=rtol, atol=atol)


def loss_of(said):
    weights = torch.linspace(-1.0, 2.0, said.outputs[0].numel()).view(said.outputs[0].shape)
    return (weights * said.outputs).sum() + said.values.square().sum() + said.states.square().sum()


@pytest.mark.parametrize("torso", WITH_AND_WITHOUT_LSTM)
@pytest.mark.parametrize("num_networks", [1, N])
def test_outputs_and_gradients_are_those_of_each_network_alone(torso, num_networks):
    config, shape = WITH_AND_WITHOUT_LSTM[torso]
    networks = build(config, shape, num_networks, num_values=2)
    given = rows(networks[0], shape, num_networks)
    stacked = StackedNetworks(networks)
    assert_as_alone(networks, stacked, given)
    with torch.no_grad():
        assert_as_alone(networks, stacked, given)
    loss_of(stacked(*given)).backward()
    gradients = [{name: p.grad for name, p in network.named_parameters()} for network in networks]
    for network in networks:
        network.zero_grad()
    sum(loss_of(said) for said in alone(networks, *given)).backward()
    for network, gradient in zip(networks, gradients, strict=True):
        for name, parameter in network.named_parameters():
            torch.testing.assert_close(gradient[name], parameter.grad, rtol=1e-4, atol=1e-4)


@each_torso
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.bool])
def test_observations_of_every_dtype_and_layout_are_left_untouched(torso, dtype):
    config, shape = EVERY_TORSO[torso]
    networks = build(config, shape)
    _, state, is_first = rows(networks[0], shape)
    frames = torch.randint(0, 256, (N, T, B, shape[-1], *shape[:-1])).to(dtype)
    observations = frames.movedim(3, -1)  # stacked frames lie frame by frame
    before = observations.clone()
    given = observations, state, is_first
    assert_as_alone(networks, StackedNetworks(networks), given, rtol=1e-4, atol=1e-3)
    assert torch.equal(observations, before)
    features = StackedNetworks(networks)(*given).features
    kept = features.clone()
    observations.zero_()  # as an environment does that reuses its buffer
    assert torch.equal(features, kept)


@each_torso
def test_mixed_precision_is_for_the_torso_only(torso):
    config, shape = EVERY_TORSO[torso]
    networks = build(config, shape, mixed_precision=True)
    given = rows(networks[0], shape)
    stacked = StackedNetworks(networks)
    assert_as_alone(networks, stacked, given, rtol=0.02, atol=0.02)
    exact = build(config, shape)
    for network, mixed in zip(exact, networks, strict=True):
        network.load_state_dict(mixed.state_dict())
    in_float32 = StackedNetworks(exact)(*given).outputs
    torch.testing.assert_close(stacked(*given).outputs, in_float32, rtol=0.05, atol=0.05)
    assert torch.equal(stacked(*given).outputs, in_float32) == (torso in ("linear", "tabular"))
    loss_of(stacked(*given)).backward()
    assert all(p.grad.dtype == torch.float32 for network in networks for p in network.parameters())


def test_what_is_around_it_does_not_change_its_precision():
    networks = build(MEMORY, (3,))
    given = rows(networks[0], (3,))
    stacked = StackedNetworks(networks)
    expected = stacked(*given).outputs
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(stacked(*given).outputs, expected)


@pytest.mark.parametrize(
    ("other", "says"),
    [
        (
            build_network(MLP, (3,), A + 1),
            "'num_outputs' is 5 in that of 'pong' and 6 in that of 'qbert'",
        ),
        (build_network(MLP, (3,), A, num_values=2), "'num_values' is 0 .* and 2"),
        (build_network(MEMORY, (3,), A), "'state_size' is 0 .* and 12"),
        (build_network(MLP, (3,), A, mixed_precision=True), "'mixed_precision' is False .* and True"),
        (build_network({"type": "linear"}, (3,), A), "'torso' is MLP .* and Flatten"),
        (build_network(MLP, (4,), A), r"'torso.layers.0.weight' is \(8, 3\) .* and \(8, 4\)"),
        (
            build_network({"type": "mlp", "hiddens": [8, 5, 5]}, (3,), A),
            r"'torso.layers.4.weight' is None .* and \(5, 5\)",
        ),
    ],
)
def test_networks_that_differ_are_refused_with_the_first_difference(other, says):
    network = build_network(MLP, (3,), A)
    with pytest.raises(DistillError, match=says) as error:
        StackedNetworks([network, network, other], ["pong", "breakout", "qbert"])
    assert "\n" not in str(error.value)


def test_networks_with_other_strides_are_refused():
    networks = [build_network({"type": "cnn", "convs": [[4, 3, stride]]}, (4, 4, 1), A) for stride in (2, 3)]
    with pytest.raises(DistillError, match=r"'torso.convs.0.stride' is \(2, 2\) in that of '0' and \(3, 3\)"):
        StackedNetworks(networks)


def test_no_networks_and_rows_of_other_tasks_are_refused():
    with pytest.raises(DistillError, match="at least one; got none"):
        StackedNetworks([])
    networks = build(MLP, (3,))
    with pytest.raises(DistillError, match=r"N = 3 tasks.*got shape \(2, 4, 2, 3\)"):
        StackedNetworks(networks)(*rows(networks[0], (3,), 2))


def cpu_seconds(stacked, networks, shape, num_rows):
    """The fastest of several forwards and backwards of that many rows in all."""
    num_networks = len(networks)
    observations = torch.rand(num_networks, num_rows // num_networks, 1, *shape) < 0.2
    state = torch.zeros(num_networks, 1, networks[0].state_size)
    is_first = torch.zeros(observations.shape[:3], dtype=torch.bool)
    seconds = []
    for _ in range(5):
        for network in networks:
            network.zero_grad()
        start = time.process_time()  # not the clock on the wall: others may want the same core
        said = stacked(observations, state, is_first)
        (said.outputs.square().mean() + said.values.square().mean()).backward()
        seconds.append(time.process_time() - start)
    return min(seconds)


@pytest.mark.parametrize(
    ("config", "shape"), [({"type": "mlp"}, (50,)), ({"type": "minatar_cnn"}, (10, 10, 7))]
)
def test_eight_networks_cost_little_more_than_one_on_as_many_rows(config, shape):
    networks = build(config, shape, 8)
    eight = cpu_seconds(StackedNetworks(networks), networks, shape, 2560)
    one = cpu_seconds(StackedNetworks(networks[:1]), networks[:1], shape, 2560)
    assert eight < 2.5 * one  # measured: 1.1 to 1.3 (MLP), 1.3 to 1.6 (CNN)


def sgd(parameters):
    return torch.optim.SGD(parameters, lr=0.1)


def foreach_adam(parameters):
    return torch.optim.Adam(parameters, lr=0.1, foreach=True)


def fused_adam(parameters):
    return make_optimizer({"type": "adam"}, parameters, 0.1)


@pytest.mark.parametrize("optimizer_of", [sgd, foreach_adam, fused_adam])
@pytest.mark.parametrize("without_gradients", [torch.no_grad, torch.inference_mode])
def test_a_forward_without_gradients_sees_an_optimizers_step(optimizer_of, without_gradients):
    networks = build(MINATAR | {"lstm": 6}, (6, 5, 3))
    given = rows(networks[0], (6, 5, 3))
    stacked = StackedNetworks(networks)
    policy = [p for name, p in networks[1].named_parameters() if not name.startswith("value_head")]
    optimizer = optimizer_of(policy)
    stacked(*given).outputs.square().sum().backward()
    with without_gradients():
        before = stacked(*given).outputs
    optimizer.step()
    with without_gradients():
        assert not torch.equal(stacked(*given).outputs[1], before[1])
        assert torch.equal(stacked(*given).outputs[0], before[0])
        assert_as_alone(networks, stacked, given)


def load(network, weights):
    network.load_state_dict(weights)


def assign(network, weights):
    network.load_state_dict(weights, assign=True)


def replace_data(network, weights):
    for name, parameter in network.named_parameters():
        parameter.data = weights[name].clone()


def overwrite(network, weights):
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            parameter.lerp_(weights[name], 0.5)


@pytest.mark.parametrize("change", [load, assign, replace_data, overwrite])
@torch.no_grad()
def test_a_forward_without_gradients_sees_other_weights(change):
    networks, others = build(MEMORY, (3,)), build(MEMORY, (3,))
    given = rows(networks[0], (3,))
    stacked = StackedNetworks(networks)
    before = stacked(*given).outputs
    for network, other in zip(networks, others, strict=True):
        change(network, other.state_dict())
    assert not torch.equal(stacked(*given).outputs, before)
    assert_as_alone(networks, stacked, given)


def test_weights_are_joined_once_for_many_forwards_without_gradients(monkeypatch):
    networks = build(MEMORY, (3,))
    given = rows(networks[0], (3,))
    stacked = StackedNetworks(networks)
    joined = []
    join = torch.stack
    weight = networks[0].head.weight
    monkeypatch.setattr(
        torch, "stack", lambda parts, *a, **k: joined.append(parts[0] is weight) or join(parts, *a, **k)
    )
    with torch.no_grad():
        for _ in range(5):
            stacked(*given)
    assert sum(joined) == 1
    for _ in range(5):
        stacked(*given)
    assert sum(joined) == 6


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda o: pickle.loads(pickle.dumps(o))])
@torch.no_grad()
def test_a_copy_has_weights_of_its_own(copied):
    networks = build(MINATAR, (6, 5, 3))
    given = rows(networks[0], (6, 5, 3))
    stacked = StackedNetworks(networks)
    before = stacked(*given).outputs
    clone, their_networks = copied((stacked, networks))
    for network in their_networks:
        network.head.weight.zero_()
    assert torch.equal(stacked(*given).outputs, before)
    assert not torch.equal(clone(*given).outputs, before)


@torch.no_grad()
def test_a_pickle_holds_each_weight_once():
    networks = build(MINATAR, (6, 5, 3))
    stacked = StackedNetworks(networks)
    before = len(pickle.dumps(stacked))
    stacked(*rows(networks[0], (6, 5, 3)))
    assert len(pickle.dumps(stacked)) == before
