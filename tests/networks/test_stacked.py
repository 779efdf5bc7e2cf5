"""Stacked networks against each network alone: outputs, gradients, and their cost."""

import time

import pytest
import torch

from rllib_distill.errors import DistillError
from rllib_distill.networks import StackedNetworks, build_policy_network

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
}
each_torso = pytest.mark.parametrize("torso", EVERY_TORSO)
WITH_AND_WITHOUT_MEMORY = EVERY_TORSO | {
    f"{name} and lstm": (config | {"lstm": 6}, shape)
    for name, (config, shape) in EVERY_TORSO.items()
    if name != "tabular"
}


@pytest.fixture(autouse=True)
def same_numbers():
    torch.manual_seed(0)


def build(config, shape, num_networks=N, **options):
    networks = [build_policy_network(config, shape, A, **options) for _ in range(num_networks)]
    for network in networks:
        for parameter in network.parameters():  # tables too shall differ
            parameter.data.add_(0.1 * torch.randn_like(parameter))
    return networks


def rows(network, shape, num_networks=N):
    observations = torch.rand(num_networks, T, B, *shape) < 0.4
    begins = torch.rand(num_networks, T, B) < 0.3
    return observations, torch.randn(num_networks, B, network.state_size), begins


def alone(networks, observations, state, begins):
    """Each network on its own rows, as one network of one task."""
    for n, network in enumerate(networks):
        yield network(observations[n][None], state[n][None], begins[n][None])


def assert_as_alone(networks, stacked, given, **tolerance):
    outputs = stacked(*given)
    for n, expected in enumerate(alone(networks, *given)):
        for name in ("logits", "values", "states"):
            actual, single = getattr(outputs, name)[n], getattr(expected, name)[0]
            assert actual.dtype == torch.float32
            torch.testing.assert_close(actual, single, **tolerance)


def loss_of(outputs):
    weights = torch.linspace(-1.0, 2.0, outputs.logits[0].numel()).view(outputs.logits[0].shape)
    return (weights * outputs.logits).sum() + outputs.values.square().sum() + outputs.states.square().sum()


@pytest.mark.parametrize("torso", WITH_AND_WITHOUT_MEMORY)
@pytest.mark.parametrize("num_networks", [1, N])
def test_outputs_and_gradients_are_those_of_each_network_alone(torso, num_networks):
    config, shape = WITH_AND_WITHOUT_MEMORY[torso]
    networks = build(config, shape, num_networks, num_values=2)
    given = rows(networks[0], shape, num_networks)
    stacked = StackedNetworks(networks)
    assert_as_alone(networks, stacked, given, rtol=1e-5, atol=1e-5)
    with torch.no_grad():
        assert_as_alone(networks, stacked, given, rtol=1e-5, atol=1e-5)
    loss_of(stacked(*given)).backward()
    gradients = [{name: p.grad for name, p in network.named_parameters()} for network in networks]
    for network in networks:
        network.zero_grad()
    sum(loss_of(outputs) for outputs in alone(networks, *given)).backward()
    for network, gradient in zip(networks, gradients, strict=True):
        for name, parameter in network.named_parameters():
            torch.testing.assert_close(gradient[name], parameter.grad, rtol=1e-4, atol=1e-4)


@each_torso
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.bool])
def test_observations_of_every_dtype_and_layout_are_left_untouched(torso, dtype):
    config, shape = EVERY_TORSO[torso]
    networks = build(config, shape)
    _, state, begins = rows(networks[0], shape)
    frames = torch.randint(0, 256, (N, T, B, shape[-1], *shape[:-1])).to(dtype)
    observations = frames.movedim(3, -1)  # stacked frames lie frame by frame
    before = observations.clone()
    given = observations, state, begins
    assert_as_alone(networks, StackedNetworks(networks), given, rtol=1e-4, atol=1e-3)
    assert torch.equal(observations, before)


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
    in_float32 = StackedNetworks(exact)(*given).logits
    torch.testing.assert_close(stacked(*given).logits, in_float32, rtol=0.05, atol=0.05)
    if torso not in ("linear", "tabular"):
        assert not torch.equal(stacked(*given).logits, in_float32)
    loss_of(stacked(*given)).backward()
    assert all(p.grad.dtype == torch.float32 for network in networks for p in network.parameters())


def test_what_is_around_it_does_not_change_its_precision():
    networks = build(MEMORY, (3,))
    given = rows(networks[0], (3,))
    stacked = StackedNetworks(networks)
    expected = stacked(*given).logits
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(stacked(*given).logits, expected)


def test_a_network_without_values_has_none():
    networks = build(MLP, (3,), num_values=0)
    given = rows(networks[0], (3,))
    assert StackedNetworks(networks)(*given).values.shape == (N, T, B, 0)


@pytest.mark.parametrize(
    ("other", "says"),
    [
        (
            build_policy_network(MLP, (3,), A + 1),
            "'num_actions' is 5 in that of 'pong' and 6 in that of 'qbert'",
        ),
        (build_policy_network(MLP, (3,), A, num_values=2), "'num_values' is 1 .* and 2"),
        (build_policy_network(MEMORY, (3,), A), "'state_size' is 0 .* and 12"),
        (build_policy_network(MLP, (3,), A, mixed_precision=True), "'mixed_precision' is False .* and True"),
        (build_policy_network({"type": "linear"}, (3,), A), "'torso' is MLP .* and Flatten"),
        (build_policy_network(MLP, (4,), A), r"'torso.layers.0.weight' is \(8, 3\) .* and \(8, 4\)"),
        (
            build_policy_network({"type": "mlp", "hiddens": [8, 5, 5]}, (3,), A),
            r"'torso.layers.4.weight' is None .* and \(5, 5\)",
        ),
    ],
)
def test_networks_that_differ_are_refused_with_the_first_difference(other, says):
    network = build_policy_network(MLP, (3,), A)
    with pytest.raises(DistillError, match=says) as error:
        StackedNetworks([network, network, other], ["pong", "breakout", "qbert"])
    assert "\n" not in str(error.value)


def test_networks_with_other_strides_are_refused():
    networks = [
        build_policy_network({"type": "cnn", "convs": [[4, 3, stride]]}, (4, 4, 1), A) for stride in (2, 3)
    ]
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
    begins = torch.zeros(observations.shape[:3], dtype=torch.bool)
    seconds = []
    for _ in range(5):
        for network in networks:
            network.zero_grad()
        start = time.process_time()  # not the clock on the wall: others may want the same core
        outputs = stacked(observations, state, begins)
        (outputs.logits.square().mean() + outputs.values.square().mean()).backward()
        seconds.append(time.process_time() - start)
    return min(seconds)


@pytest.mark.parametrize(
    ("config", "shape"), [({"type": "mlp"}, (50,)), ({"type": "minatar_cnn"}, (10, 10, 7))]
)
def test_eight_networks_cost_little_more_than_one_on_as_many_rows(config, shape):
    networks = [build_policy_network(config, shape, 6) for _ in range(8)]
    eight = cpu_seconds(StackedNetworks(networks), networks, shape, 2560)
    one = cpu_seconds(StackedNetworks(networks[:1]), networks[:1], shape, 2560)
    assert eight < 2.5 * one  # measured: 1.1 to 1.3 (MLP), 1.3 to 1.6 (CNN)
