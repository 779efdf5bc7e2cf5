"""Policy networks: shapes, counts by hand, an LSTM against torch's own, tables, and bad configs."""

import pytest
import torch
from torch import nn

from rllib_distill.errors import DistillError
from rllib_distill.networks import build_network, build_policy_network, scale_logits

MLP = {"type": "mlp", "hiddens": [8, 5]}
MEMORY = MLP | {"lstm": 6}
SHAPE = (3,)
N, T, B = 2, 7, 4


@pytest.fixture(autouse=True)
def same_numbers():
    torch.manual_seed(0)


def rows(network, begins_at=0.3):
    """Observations, a state that is not zero, and begins at random, of N tasks."""
    state = torch.randn(N, B, network.state_size)
    return torch.randn(N, T, B, *SHAPE), state, torch.rand(N, T, B) < begins_at


@pytest.mark.parametrize(("config", "state_size"), [(MLP, 0), (MEMORY, 12)])
@pytest.mark.parametrize("num_values", [0, 1, 3])
def test_outputs_have_their_shapes(config, state_size, num_values):
    network = build_policy_network(config, SHAPE, 4, num_values=num_values)
    assert network.state_size == state_size and network.feature_size == (6 if state_size else 5)
    assert (network.num_actions, network.num_values) == (4, num_values)
    assert (network.value_head is None) == (num_values == 0) and (network.core is None) == (state_size == 0)
    outputs = network(*rows(network))
    assert outputs.logits.shape == (N, T, B, 4)
    assert outputs.values.shape == (N, T, B, num_values)
    assert outputs.states.shape == (N, T, B, state_size)
    assert {outputs.logits.dtype, outputs.values.dtype, outputs.states.dtype} == {torch.float32}


@pytest.mark.parametrize(
    ("config", "count"),
    [
        (MLP, (3 * 8 + 8) + (8 * 5 + 5) + (5 * 4 + 4) + (5 + 1)),
        (MLP | {"controller": 7}, (3 * 8 + 8) + (8 * 5 + 5) + 2 * (5 * 7 + 7) + (7 * 4 + 4) + (7 + 1)),
        (MEMORY, (3 * 8 + 8) + (8 * 5 + 5) + 4 * (5 * 6 + 6 * 6 + 2 * 6) + (6 * 4 + 4) + (6 + 1)),
        ({"type": "linear"}, (3 * 4 + 4) + (3 + 1)),
        ({"type": "tabular"}, 3 * 4 + 3),
    ],
)
def test_parameters_are_as_many_as_counted_by_hand(config, count):
    assert sum(p.numel() for p in build_policy_network(config, SHAPE, 4).parameters()) == count


def test_without_memory_logits_and_values_are_the_heads_of_the_torsos_features():
    network = build_policy_network(MLP, SHAPE, 4, num_values=2)
    observations, state, begins = rows(network)
    outputs = network(observations, state, begins)
    features = network.torso(observations.reshape(-1, 3)).view(N, T, B, 5)
    torch.testing.assert_close(outputs.logits, network.policy_head(features))
    torch.testing.assert_close(outputs.values, network.value_head(features))


def test_bytes_are_scaled_and_named_networks_keep_their_controller():
    network = build_policy_network({"type": "minatar_net3", "controller": 9}, (5, 5, 2), 4)
    assert network.policy_head.controller.out_features == network.value_head.controller.out_features == 9
    pixels = torch.randint(0, 256, (N, T, B, 5, 5, 2), dtype=torch.uint8)
    state, begins = torch.zeros(N, B, 0), torch.zeros(N, T, B, dtype=torch.bool)
    assert torch.equal(network(pixels, state, begins).logits, network(pixels / 255.0, state, begins).logits)


def stepped_by_torch(network, observations, state, begins):
    """Logits and states of every row by torch's LSTM, one row of one environment at a time."""
    lstm = nn.LSTM(network.torso.feature_size, network.state_size // 2)
    for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
        getattr(lstm, f"{name}_l0").data.copy_(getattr(network.core, name))
    logits = torch.empty(N, T, B, network.num_actions)
    states = torch.empty(N, T, B, network.state_size)
    for n in range(N):
        for b in range(B):
            h, c = state[n, b].chunk(2)
            for t in range(T):
                if begins[n, t, b]:
                    h, c = torch.zeros_like(h), torch.zeros_like(c)
                features = network.torso(observations[n, t, b][None])
                output, (h, c) = lstm(features[None], (h.view(1, 1, -1), c.view(1, 1, -1)))
                h, c = h.flatten(), c.flatten()
                logits[n, t, b] = network.policy_head(output.flatten())
                states[n, t, b] = torch.cat([h, c])
    return logits, states


@pytest.mark.parametrize("begins_at", [0.0, 0.3, 1.0])
def test_the_memory_is_torchs_lstm_that_forgets_where_episodes_begin(begins_at):
    network = build_policy_network(MEMORY, SHAPE, 4)
    given = rows(network, begins_at)
    outputs = network(*given)
    logits, states = stepped_by_torch(network, *given)
    torch.testing.assert_close(outputs.logits, logits)
    torch.testing.assert_close(outputs.states, states)


def test_nothing_of_the_past_reaches_an_episode_not_even_a_nan():
    network = build_policy_network(MEMORY, SHAPE, 4)
    observations, state, _ = rows(network)
    begins = torch.zeros(N, T, B, dtype=torch.bool)
    begins[:, 3] = True
    expected = network(observations[:, 3:], torch.zeros_like(state), begins[:, 3:])
    outputs = network(observations, torch.full_like(state, torch.nan), begins)
    assert outputs.logits[:, :3].isnan().all()
    torch.testing.assert_close(outputs.logits[:, 3:], expected.logits)


def test_no_gradient_passes_the_beginning_of_an_episode():
    network = build_policy_network(MEMORY, SHAPE, 4)
    observations, state, _ = rows(network)
    begins = torch.zeros(N, T, B, dtype=torch.bool)
    begins[0, 3] = True
    observations.requires_grad_()
    network(observations, state, begins).logits[:, -1].square().sum().backward()
    reached = observations.grad.abs().sum((2, 3)) > 0
    assert reached.tolist() == [[False] * 3 + [True] * 4, [True] * 7]


@pytest.mark.parametrize("cut", [1, 3, 6])
def test_two_halves_with_the_carried_state_are_the_whole(cut):
    network = build_policy_network(MEMORY, SHAPE, 4)
    observations, state, begins = rows(network)
    whole = network(observations, state, begins)
    first = network(observations[:, :cut], state, begins[:, :cut])
    second = network(observations[:, cut:], first.states[:, -1], begins[:, cut:])
    torch.testing.assert_close(torch.cat([first.logits, second.logits], 1), whole.logits)
    torch.testing.assert_close(torch.cat([first.states, second.states], 1), whole.states)


@pytest.mark.parametrize("config", [MLP, MEMORY])
def test_mixed_precision_is_for_the_torso_only(config):
    network = build_policy_network(config, SHAPE, 4)
    mixed = build_policy_network(config, SHAPE, 4, mixed_precision=True)
    mixed.load_state_dict(network.state_dict())
    given = rows(network)
    outputs, expected = mixed(*given), network(*given)
    for name in ("logits", "values", "states"):
        assert getattr(outputs, name).dtype == torch.float32
        torch.testing.assert_close(getattr(outputs, name), getattr(expected, name), rtol=0.05, atol=0.02)
    assert not torch.equal(outputs.logits, expected.logits)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(mixed(*given).logits, outputs.logits)
        assert torch.equal(network(*given).logits, expected.logits)


def test_every_parameter_gets_a_gradient():
    network = build_policy_network(MEMORY | {"controller": 7}, SHAPE, 4)
    outputs = network(*rows(network))
    (outputs.logits.square().mean() + outputs.values.square().mean()).backward()
    assert all(p.grad is not None and p.grad.any() for p in network.parameters())


def test_a_table_is_one_number_per_state_and_output():
    network = build_policy_network({"type": "tabular"}, (5,), 3, num_values=1)
    one_hots = torch.eye(5).view(1, 5, 1, 5).bool()
    given = one_hots, torch.zeros(1, 1, 0), torch.zeros(1, 5, 1, dtype=torch.bool)
    assert not network(*given).logits.any() and not network(*given).values.any()
    optimizer = torch.optim.SGD(network.parameters(), lr=1.0)
    outputs = network(*given)
    (outputs.logits[0, 2, 0, 1] + outputs.values[0, 4, 0, 0]).backward()
    optimizer.step()
    expected = torch.zeros(5, 3)
    expected[2, 1] = -1.0
    assert torch.equal(network(*given).logits[0, :, 0], expected)
    assert network(*given).values.flatten().tolist() == [0.0, 0.0, 0.0, 0.0, -1.0]


@pytest.mark.parametrize("num_outputs", [3, {"a": 3, "b": 2}])
def test_a_table_of_q_values_starts_at_zero_too(num_outputs):
    network = build_network({"type": "tabular"}, (5,), num_outputs)
    outputs, features = network(torch.eye(5)[:4], ("a", "b"))
    assert not outputs.any() and torch.equal(features, torch.eye(5)[:4])
    assert all(name.endswith("weight") for name in network.state_dict())


@pytest.mark.parametrize("config", [MLP, MLP | {"controller": 7}, MEMORY, {"type": "tabular"}])
def test_a_task_column_starts_at_zero_and_learns_all_the_same(config):
    network = build_policy_network(config, SHAPE, 4)
    scale_logits(network, 0.0)
    given = rows(network)
    assert torch.equal(network(*given).logits, torch.zeros(N, T, B, 4))
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        network(*given).logits[..., 0].sum().backward()
        optimizer.step()
    policy = [parameter for name, parameter in network.named_parameters() if "value" not in name]
    assert all(parameter.grad.any() for parameter in policy)


@pytest.mark.parametrize(
    ("config", "says"),
    [
        (MLP | {"lstm": 0}, "'lstm' must be a positive integer; got 0"),
        (MLP | {"lstm": True}, "'lstm' must be a positive integer; got True"),
        (MLP | {"lsmt": 6}, "'lsmt'.*Did you mean 'lstm'"),
        ({"type": "tabular", "lstm": 6}, "Unknown option 'lstm' of the network type 'tabular'"),
        ({"type": "tabular", "controller": 6}, "Unknown option 'controller' of the network type 'tabular'"),
        ({"type": "tabula"}, "'tabula'. Did you mean 'tabular'"),
        (MLP | {"hiddens": []}, "'hiddens' must be a list"),
    ],
)
def test_bad_configs_end_in_one_line(config, says):
    with pytest.raises(DistillError, match=says) as error:
        build_policy_network(config, SHAPE, 3)
    assert "\n" not in str(error.value)


def test_a_network_of_q_values_has_no_memory():
    with pytest.raises(DistillError, match="Unknown option 'lstm' of the network type 'mlp'"):
        build_network(MEMORY, SHAPE, 3)
