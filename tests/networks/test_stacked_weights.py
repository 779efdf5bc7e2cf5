"""The weights of stacked networks: joined once for many forwards, and anew after every change."""

import copy
import pickle

import pytest
import torch

from rllib_distill.networks import StackedNetworks, build_policy_network

MEMORY = {"type": "mlp", "hiddens": [8, 5], "lstm": 6}
MINATAR = {"type": "minatar_cnn", "filters": 4, "hidden": 7}
N, T, B, A = 3, 4, 2, 5


@pytest.fixture(autouse=True)
def same_numbers():
    torch.manual_seed(0)


def build(config, shape):
    return [build_policy_network(config, shape, A) for _ in range(N)]


def rows(network, shape):
    state = torch.randn(N, B, network.state_size)
    return torch.randn(N, T, B, *shape), state, torch.rand(N, T, B) < 0.3


def assert_as_alone(networks, stacked, given):
    logits = stacked(*given).logits
    for n, network in enumerate(networks):
        alone = network(*(tensor[n][None] for tensor in given)).logits[0]
        torch.testing.assert_close(logits[n], alone, rtol=1e-5, atol=1e-5)


def sgd(parameters):
    return torch.optim.SGD(parameters, lr=0.1)


def foreach_adam(parameters):
    return torch.optim.Adam(parameters, lr=0.1, foreach=True)


def fused_adam(parameters):
    return torch.optim.Adam(parameters, lr=0.1, fused=True)


@pytest.mark.parametrize("optimizer_of", [sgd, foreach_adam, fused_adam])
@pytest.mark.parametrize("without_gradients", [torch.no_grad, torch.inference_mode])
def test_a_forward_without_gradients_sees_an_optimizers_step(optimizer_of, without_gradients):
    networks = build(MINATAR | {"lstm": 6}, (6, 5, 3))
    given = rows(networks[0], (6, 5, 3))
    stacked = StackedNetworks(networks)
    policy = [p for name, p in networks[1].named_parameters() if not name.startswith("value_head")]
    optimizer = optimizer_of(policy)
    stacked(*given).logits.square().sum().backward()
    with without_gradients():
        before = stacked(*given).logits
    optimizer.step()
    with without_gradients():
        assert not torch.equal(stacked(*given).logits[1], before[1])
        assert torch.equal(stacked(*given).logits[0], before[0])
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
    before = stacked(*given).logits
    for network, other in zip(networks, others, strict=True):
        change(network, other.state_dict())
    assert not torch.equal(stacked(*given).logits, before)
    assert_as_alone(networks, stacked, given)


def test_weights_are_joined_once_for_many_forwards_without_gradients(monkeypatch):
    networks = build(MEMORY, (3,))
    given = rows(networks[0], (3,))
    stacked = StackedNetworks(networks)
    joined = []
    join = torch.stack
    weight = networks[0].policy_head.weight
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
    before = stacked(*given).logits
    clone, their_networks = copied((stacked, networks))
    for network in their_networks:
        network.policy_head.weight.zero_()
    assert torch.equal(stacked(*given).logits, before)
    assert not torch.equal(clone(*given).logits, before)


@torch.no_grad()
def test_a_pickle_holds_each_weight_once():
    networks = build(MINATAR, (6, 5, 3))
    stacked = StackedNetworks(networks)
    before = len(pickle.dumps(stacked))
    stacked(*rows(networks[0], (6, 5, 3)))
    assert len(pickle.dumps(stacked)) == before
