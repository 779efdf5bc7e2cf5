"""Networks: shapes, parameters counted by hand, inputs of every dtype, and bad configs."""

import copy

import pytest
import torch
from torch import nn

from rllib_distill.errors import DistillError
from rllib_distill.networks import build_network

MINATAR = (10, 10, 10)


@pytest.mark.parametrize(
    ("config", "shape", "feature_size"),
    [
        ({"type": "minatar_cnn"}, MINATAR, 128),
        ({"type": "minatar_cnn", "filters": 4, "hidden": 7}, (5, 6, 1), 7),
        ({"type": "mlp"}, (4,), 256),
        ({"type": "mlp", "hiddens": [8, 5]}, (3, 4), 5),
        ({"type": "linear"}, (3, 4), 12),
        ({"type": "linear"}, (9,), 9),
    ],
)
def test_outputs_and_features_have_their_shapes(config, shape, feature_size):
    network = build_network(config, shape, num_outputs=6)
    outputs, features = network(torch.rand(32, *shape))
    assert network.feature_size == feature_size
    assert outputs.shape == (32, 6) and features.shape == (32, feature_size)
    assert outputs.dtype == features.dtype == torch.float32


@pytest.mark.parametrize(
    ("config", "shape", "count"),
    [
        # 3x3 convolution of 10 channels to 16 maps of 8x8, 1024 -> 128, 128 -> 6.
        ({"type": "minatar_cnn"}, MINATAR, (3 * 3 * 10 * 16 + 16) + (8 * 8 * 16 * 128 + 128) + (128 * 6 + 6)),
        ({"type": "mlp", "hiddens": [8, 5]}, (3,), (3 * 8 + 8) + (8 * 5 + 5) + (5 * 6 + 6)),
        ({"type": "linear"}, (2, 2), 4 * 6 + 6),
    ],
)
def test_parameters_are_as_many_as_counted_by_hand(config, shape, count):
    assert sum(p.numel() for p in build_network(config, shape, num_outputs=6).parameters()) == count


def test_minatar_cnn_has_the_papers_size():
    assert sum(p.numel() for p in build_network({"type": "minatar_cnn"}, MINATAR, 6).parameters()) == 133_430


@pytest.mark.parametrize(("config", "shape"), [({"type": "minatar_cnn"}, MINATAR), ({"type": "mlp"}, (4,))])
def test_features_come_after_the_relu_and_outputs_are_linear_in_them(config, shape):
    network = build_network(config, shape, num_outputs=6)
    outputs, features = network(torch.randn(64, *shape))
    assert features.min() == 0.0 and features.max() > 0.0
    torch.testing.assert_close(outputs, features @ network.head.weight.T + network.head.bias)


def test_linear_features_are_the_flattened_observation():
    observations = torch.randn(5, 2, 3)
    _, features = build_network({"type": "linear"}, (2, 3), 4)(observations)
    assert torch.equal(features, observations.reshape(5, 6))
    observations.zero_()  # as an environment does that reuses its buffer
    assert not torch.equal(features, observations.reshape(5, 6))


def test_minatar_cnn_equals_a_channels_first_oracle():
    network = build_network({"type": "minatar_cnn"}, MINATAR, 6)
    observations = torch.rand(7, *MINATAR) < 0.2
    maps = nn.functional.conv2d(
        observations.double().permute(0, 3, 1, 2).contiguous(),
        network.torso.conv.weight.double().contiguous(),
        network.torso.conv.bias.double(),
    ).relu()
    # Hidden units see the maps in the order of the observation: row, column, filter.
    hidden = nn.functional.linear(
        torch.stack([m.permute(1, 2, 0).reshape(-1) for m in maps]),
        network.torso.hidden.weight.double(),
        network.torso.hidden.bias.double(),
    ).relu()
    outputs, features = network(observations)
    torch.testing.assert_close(features.double(), hidden, rtol=1e-5, atol=1e-6)
    expected = hidden @ network.head.weight.double().T + network.head.bias.double()
    torch.testing.assert_close(outputs.double(), expected, rtol=1e-5, atol=1e-6)


def test_bool_is_zero_or_one_and_uint8_is_scaled_and_left_untouched():
    network = build_network({"type": "minatar_cnn"}, MINATAR, 6)
    pixels = torch.randint(0, 256, (3, *MINATAR), dtype=torch.uint8)
    before = pixels.clone()
    assert torch.equal(network(pixels)[0], network(pixels.float() / 255.0)[0])
    assert torch.equal(network(pixels > 127)[0], network((pixels > 127).float())[0])
    assert torch.equal(pixels, before)
    reals = torch.randn(3, *MINATAR)
    before = reals.clone()
    network(reals)
    assert torch.equal(reals, before)


def test_convolution_stays_channels_last_through_copies_and_loading():
    network = build_network({"type": "minatar_cnn"}, MINATAR, 6)
    clone = copy.deepcopy(network)
    clone.load_state_dict({name: t.contiguous() for name, t in network.state_dict().items()})
    assert clone.torso.conv.weight.is_contiguous(memory_format=torch.channels_last)


def test_every_parameter_gets_a_gradient():
    network = build_network({"type": "minatar_cnn"}, MINATAR, 6)
    outputs, features = network(torch.rand(64, *MINATAR))
    (outputs.square().mean() + features.mean()).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())


@pytest.mark.parametrize(
    ("config", "shape", "says"),
    [
        ({"type": "minatar_cn"}, MINATAR, "'minatar_cn'.*Did you mean 'minatar_cnn'"),
        ({"type": "minatar_cnn", "filter": 3}, MINATAR, "'filter'.*Did you mean 'filters'"),
        ({"type": "linear", "hidden": 3}, (4,), "'hidden'.*Known: controller"),
        ({"type": "minatar_cnn", "filters": 0}, MINATAR, "'filters' must be a positive integer; got 0"),
        ({"type": "minatar_cnn", "hidden": "128"}, MINATAR, "'hidden' must be a positive integer; got '128'"),
        ({"type": "minatar_cnn", "hidden": True}, MINATAR, "got True"),
        ({"type": "minatar_cnn"}, (4,), r"\(H, W, C\).*got \(4,\).*'mlp'"),
        ({"type": "minatar_cnn"}, (2, 10, 4), r"got \(2, 10, 4\)"),
        ({"type": "mlp", "hiddens": 256}, (4,), "'hiddens' must be a list.*got 256"),
        ({"type": "mlp", "hiddens": []}, (4,), r"got \[\].*'linear'"),
        ({"type": "mlp", "hiddens": [8, -1]}, (4,), "got -1"),
        ({"filters": 16}, MINATAR, "mapping with a 'type'.*minatar_cnn"),
        ({"type": ["mlp"]}, MINATAR, "mapping with a 'type'"),
        ("mlp", MINATAR, "mapping with a 'type'; got 'mlp'"),
    ],
)
def test_bad_configs_end_in_one_line(config, shape, says):
    with pytest.raises(DistillError, match=says) as error:
        build_network(config, shape, num_outputs=3)
    assert "\n" not in str(error.value)
