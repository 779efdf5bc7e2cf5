"""Torsos against plain channels-first PyTorch, inputs of every dtype and layout, and mixed precision."""

import copy

import pytest
import torch
from torch import nn

from rllib_distill.networks import build_network

ATARI, MINATAR = (84, 84, 4), (10, 10, 10)
SHAPE = (17, 20, 3)  # neither square nor divisible by the strides
SMALL = {"type": "cnn", "convs": [[6, 4, 2], [5, 3, 1]], "hiddens": [11, 7]}
SMALL_NATURE = {"type": "nature_cnn", "filters": [4, 8, 2], "hidden": 16}
each_torso = pytest.mark.parametrize(
    "config", [SMALL, {"type": "minatar_cnn"}, {"type": "mlp"}, {"type": "linear"}]
)


def layers_of(torso, kind):
    return [layer for layer in torso.modules() if isinstance(layer, kind)]


def channels_first(torso, strides):
    """The same torso as an `nn.Sequential` of (B, C, H, W), with the same weights in that order."""
    layers = []
    for conv, stride in zip(layers_of(torso, nn.Conv2d), strides, strict=True):
        filters, channels, kernel, _ = conv.weight.shape
        layers += [nn.Conv2d(channels, filters, kernel, stride), nn.ReLU()]
        layers[-2].weight.data, layers[-2].bias.data = conv.weight.detach().contiguous(), conv.bias.detach()
    layers.append(nn.Flatten())
    for i, hidden in enumerate(layers_of(torso, nn.Linear)):
        weight = hidden.weight.detach()
        if i == 0:  # from row, column, filter to filter, row, column
            pixels = weight.shape[1] // filters
            weight = weight.unflatten(1, (pixels, filters)).transpose(1, 2).flatten(1)
        layers += [nn.Linear(weight.shape[1], weight.shape[0]), nn.ReLU()]
        layers[-2].weight.data, layers[-2].bias.data = weight, hidden.bias.detach()
    return nn.Sequential(*layers)


@pytest.mark.parametrize(
    ("config", "shape", "strides"),
    [
        (SMALL, SHAPE, [2, 1]),
        ({"type": "nature_cnn"}, ATARI, [4, 2, 1]),
        (SMALL_NATURE, (36, 40, 1), [4, 2, 1]),
        ({"type": "minatar_cnn"}, MINATAR, [1]),
    ],
)
def test_outputs_equal_a_channels_first_oracle(config, shape, strides):
    network = build_network(config, shape, 6)
    oracle = channels_first(network.torso, strides)
    pixels = torch.randint(0, 256, (5, *shape), dtype=torch.uint8)
    expected = oracle((pixels.double() / 255.0).float().permute(0, 3, 1, 2).contiguous())
    outputs, features = network.of_rows(pixels)
    torch.testing.assert_close(features, expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(outputs, network.head(expected), rtol=1e-5, atol=1e-5)
    assert features.shape == (5, network.feature_size) and outputs.shape == (5, 6)


def test_gradients_equal_those_of_a_channels_first_oracle():
    torso = build_network(SMALL, SHAPE, 6).torso
    oracle = channels_first(torso, [2, 1])
    observations = torch.rand(5, *SHAPE)
    torso(observations).square().sum().backward()
    oracle(observations.permute(0, 3, 1, 2).contiguous()).square().sum().backward()
    for conv, plain in zip(torso.convs, oracle[0:4:2], strict=True):
        torch.testing.assert_close(conv.weight.grad, plain.weight.grad, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("config", "shape"), [({"type": "minatar_cnn"}, MINATAR), ({"type": "mlp"}, (4,))])
def test_features_come_after_the_relu_and_outputs_are_linear_in_them(config, shape):
    network = build_network(config, shape, num_outputs=6)
    outputs, features = network.of_rows(torch.randn(64, *shape))
    assert features.min() == 0.0 and features.max() > 0.0
    torch.testing.assert_close(outputs, features @ network.head.weight.T + network.head.bias)


def test_linear_features_are_a_copy_of_the_flattened_observation():
    observations = torch.randn(5, 2, 3)
    _, features = build_network({"type": "linear"}, (2, 3), 4).of_rows(observations)
    assert torch.equal(features, observations.reshape(5, 6))
    observations.zero_()  # as an environment does that reuses its buffer
    assert not torch.equal(features, observations.reshape(5, 6))


def test_bool_is_zero_or_one_and_uint8_is_scaled_and_left_untouched():
    network = build_network({"type": "minatar_cnn"}, MINATAR, 6)
    pixels = torch.randint(0, 256, (3, *MINATAR), dtype=torch.uint8)
    before = pixels.clone()
    assert torch.equal(network.of_rows(pixels)[0], network.of_rows(pixels.float() / 255.0)[0])
    assert torch.equal(network.of_rows(pixels > 127)[0], network.of_rows((pixels > 127).float())[0])
    assert torch.equal(pixels, before)
    reals = torch.randn(3, *MINATAR)
    before = reals.clone()
    network.of_rows(reals)
    assert torch.equal(reals, before)


@each_torso
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_a_transposed_view_of_frames_gives_what_a_contiguous_copy_gives(config, dtype):
    network = build_network(config, SHAPE, 6)
    frames = torch.randint(0, 256, (5, 3, 17, 20)).to(dtype)  # frame by frame in memory
    before = frames.clone()
    view = frames.permute(0, 2, 3, 1)
    for of_view, of_copy in zip(network.of_rows(view), network.of_rows(view.contiguous()), strict=True):
        assert torch.equal(of_view, of_copy)
    assert torch.equal(frames, before)


@pytest.mark.parametrize(("config", "shape"), [(SMALL, SHAPE), ({"type": "minatar_cnn"}, MINATAR)])
def test_convolutions_stay_channels_last_through_copies_loading_and_the_meta_device(config, shape):
    network = build_network(config, shape, 6)
    with torch.device("meta"):
        empty = build_network(config, shape, 6)
    for clone in (copy.deepcopy(network), empty.to_empty(device="cpu")):
        clone.load_state_dict({name: t.contiguous() for name, t in network.state_dict().items()})
        convs = layers_of(clone.torso, nn.Conv2d)
        assert all(conv.weight.is_contiguous(memory_format=torch.channels_last) for conv in convs)
        observations = torch.rand(2, *shape)
        assert torch.equal(clone.of_rows(observations)[0], network.of_rows(observations)[0])


@each_torso
def test_mixed_precision_is_near_and_leaves_the_head_and_what_comes_out_float32(config):
    network = build_network(config, SHAPE, 6)
    mixed = build_network(config, SHAPE, 6, mixed_precision=True)
    mixed.load_state_dict(network.state_dict())
    pixels = torch.randint(0, 256, (32, *SHAPE), dtype=torch.uint8)
    outputs, features = mixed.of_rows(pixels)
    assert outputs.dtype == features.dtype == torch.float32
    assert all(parameter.dtype == torch.float32 for parameter in mixed.parameters())
    in_float32 = features @ mixed.head.weight.T + mixed.head.bias
    torch.testing.assert_close(outputs, in_float32, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(outputs, network.of_rows(pixels)[0], rtol=0.05, atol=0.02)
    if config["type"] != "linear":
        assert not torch.equal(features, network.of_rows(pixels)[1])
        assert torch.equal(features, features.bfloat16().float())  # the torso did compute in bfloat16
    (outputs.square().mean() + features.mean()).backward()
    assert all(p.grad.dtype == torch.float32 and p.grad.isfinite().all() for p in mixed.parameters())
