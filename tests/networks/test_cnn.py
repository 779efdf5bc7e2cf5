"""Convolutional networks against plain channels-first PyTorch, and the papers' sizes."""

import copy

import pytest
import torch
from torch import nn

from rllib_distill.errors import DistillError
from rllib_distill.networks import build_network

ATARI = (84, 84, 4)
SMALL = {"type": "cnn", "convs": [[6, 4, 2], [5, 3, 1]], "hiddens": [11, 7]}
SHAPE = (17, 20, 3)  # neither square nor divisible by the strides


def channels_first(network, convs):
    """The same network as an `nn.Sequential` of (B, C, H, W), with the same weights in that order."""
    layers, channels = [], network.torso.convs[0].in_channels
    for conv, (filters, kernel, stride) in zip(network.torso.convs, convs, strict=True):
        layers += [nn.Conv2d(channels, filters, kernel, stride), nn.ReLU()]
        layers[-2].weight.data, layers[-2].bias.data = conv.weight.detach().contiguous(), conv.bias.detach()
        channels = filters
    layers.append(nn.Flatten())
    for i, hidden in enumerate(network.torso.hiddens):
        weight = hidden.weight.detach()
        if i == 0:  # from row, column, filter to filter, row, column
            pixels = weight.shape[1] // channels
            weight = weight.unflatten(1, (pixels, channels)).transpose(1, 2).flatten(1)
        layers += [nn.Linear(weight.shape[1], weight.shape[0]), nn.ReLU()]
        layers[-2].weight.data, layers[-2].bias.data = weight, hidden.bias.detach()
    return nn.Sequential(*layers)


@pytest.mark.parametrize(
    ("config", "shape", "convs"),
    [
        (SMALL, SHAPE, SMALL["convs"]),
        ({"type": "nature_cnn"}, ATARI, [(32, 8, 4), (64, 4, 2), (64, 3, 1)]),
        (
            {"type": "nature_cnn", "filters": [4, 8, 2], "hidden": 16},
            (36, 40, 1),
            [(4, 8, 4), (8, 4, 2), (2, 3, 1)],
        ),
    ],
)
def test_that_outputs_equal_a_channels_first_oracle(config, shape, convs):
    network = build_network(config, shape, 6)
    oracle = channels_first(network, convs)
    pixels = torch.randint(0, 256, (5, *shape), dtype=torch.uint8)
    expected = oracle((pixels.double() / 255.0).float().permute(0, 3, 1, 2).contiguous())
    outputs, features = network(pixels)
    torch.testing.assert_close(features, expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(outputs, network.head(expected), rtol=1e-5, atol=1e-5)
    assert features.shape == (5, network.feature_size) and outputs.shape == (5, 6)


def test_that_gradients_equal_those_of_a_channels_first_oracle():
    network = build_network(SMALL, SHAPE, 6)
    oracle = channels_first(network, SMALL["convs"])
    observations = torch.rand(5, *SHAPE)
    network(observations)[1].square().sum().backward()
    oracle(observations.permute(0, 3, 1, 2).contiguous()).square().sum().backward()
    for conv, plain in zip(network.torso.convs, oracle[0:4:2], strict=True):
        torch.testing.assert_close(conv.weight.grad, plain.weight.grad, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("config", [SMALL, {"type": "minatar_cnn"}, {"type": "mlp"}, {"type": "linear"}])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_that_a_transposed_view_of_frames_gives_what_a_contiguous_copy_gives(config, dtype):
    network = build_network(config, SHAPE, 6)
    frames = torch.randint(0, 256, (5, 3, 17, 20)).to(dtype)  # frame by frame in memory
    before = frames.clone()
    view = frames.permute(0, 2, 3, 1)
    for of_view, of_copy in zip(network(view), network(view.contiguous()), strict=True):
        assert torch.equal(of_view, of_copy)
    assert torch.equal(frames, before)


@pytest.mark.parametrize(
    ("config", "count"),
    [
        ({"type": "nature_cnn"}, 1_693_362),
        ({"type": "cnn"}, 1_693_362),
        ({"type": "actor_mimic_cnn"}, 35_216_146),
    ],
)
def test_that_networks_have_the_papers_sizes(config, count):
    with torch.device("meta"):
        network = build_network(config, ATARI, 18)
    assert sum(p.numel() for p in network.parameters()) == count


def test_that_actor_mimics_feature_regression_has_the_papers_size():
    with torch.device("meta"):
        features = build_network({"type": "actor_mimic_cnn"}, ATARI, 18).feature_size
        assert sum(p.numel() for p in nn.Linear(features, 512).parameters()) == 524_800


def test_that_convolutions_stay_channels_last_through_copies_loading_and_the_meta_device():
    network = build_network(SMALL, SHAPE, 6)
    with torch.device("meta"):
        empty = build_network(SMALL, SHAPE, 6)
    for clone in (copy.deepcopy(network), empty.to_empty(device="cpu")):
        clone.load_state_dict({name: t.contiguous() for name, t in network.state_dict().items()})
        for conv in clone.torso.convs:
            assert conv.weight.is_contiguous(memory_format=torch.channels_last)
        observations = torch.rand(2, *SHAPE)
        assert torch.equal(clone(observations)[0], network(observations)[0])


@pytest.mark.parametrize("config", [SMALL, {"type": "minatar_cnn"}, {"type": "mlp"}, {"type": "linear"}])
def test_that_mixed_precision_is_near_and_leaves_the_head_and_what_comes_out_float32(config):
    network = build_network(config, SHAPE, 6)
    mixed = build_network(config, SHAPE, 6, mixed_precision=True)
    mixed.load_state_dict(network.state_dict())
    pixels = torch.randint(0, 256, (32, *SHAPE), dtype=torch.uint8)
    outputs, features = mixed(pixels)
    assert outputs.dtype == features.dtype == torch.float32
    assert all(parameter.dtype == torch.float32 for parameter in mixed.parameters())
    in_float32 = features @ mixed.head.weight.T + mixed.head.bias
    torch.testing.assert_close(outputs, in_float32, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(outputs, network(pixels)[0], rtol=0.05, atol=0.02)
    if config["type"] != "linear":
        assert not torch.equal(features, network(pixels)[1])
        assert torch.equal(features, features.bfloat16().float())  # the torso did compute in bfloat16
    (outputs.square().mean() + features.mean()).backward()
    assert all(p.grad.dtype == torch.float32 and p.grad.isfinite().all() for p in mixed.parameters())


def test_that_a_networks_precision_is_its_own_whatever_is_around_it():
    network = build_network(SMALL, SHAPE, 6)
    mixed = build_network(SMALL, SHAPE, 6, mixed_precision=True)
    observations = torch.rand(4, *SHAPE)
    plainly = network(observations), mixed(observations)
    with torch.autocast("cpu", torch.bfloat16):
        within = network(observations), mixed(observations)
    for before, after in zip(plainly, within, strict=True):
        assert torch.equal(before[0], after[0]) and torch.equal(before[1], after[1])


def test_that_a_forward_without_gradients_does_not_take_them_from_the_next():
    network = build_network(SMALL, SHAPE, 6, mixed_precision=True)
    for without_gradients in (torch.no_grad, torch.inference_mode):
        with without_gradients():
            network(torch.rand(4, *SHAPE))
    network(torch.rand(4, *SHAPE))[0].sum().backward()
    assert all(p.grad is not None for p in network.parameters())


@pytest.mark.parametrize(
    ("config", "shape", "says"),
    [
        ({"type": "nature_cnn"}, (20, 84, 4), r"\(20, 84, 4\).*convolution 3 of 3 is 3x3 and gets 1x9"),
        ({"type": "nature_cnn"}, (35, 35, 4), r"convolution 3 of 3 is 3x3 and gets 2x2. .*at least 36"),
        ({"type": "nature_cnn"}, (4, 84, 84), r"\(4, 84, 84\) \(H, W, C\).*convolution 1 of 3"),
        ({"type": "actor_mimic_cnn"}, (51, 84, 4), r"convolution 4 of 4 is 3x3 and gets 2x7.*at least 52"),
        ({"type": "nature_cnn"}, (84, 84), r"needs observations \(H, W, C\); got \(84, 84\).*'mlp'"),
        ({"type": "cnn"}, (4,), r"got \(4,\).*'mlp'"),
        ({"type": "nature_cnn", "filters": [32, 64]}, ATARI, r"a list of 3 positive integers.*\[32, 64\]"),
        ({"type": "nature_cnn", "filters": 32}, ATARI, "'filters' must be a list of 3.*got 32"),
        ({"type": "nature_cnn", "hidden": 0}, ATARI, "'hidden' must be a positive integer; got 0"),
        ({"type": "nature_cnn", "hiddens": [5]}, ATARI, "'hiddens'.*Did you mean 'hidden'"),
        ({"type": "actor_mimic_cnn", "hidden": 5}, ATARI, "'hidden'.*Known: controller"),
        ({"type": "cnn", "hiddens": []}, ATARI, r"'hiddens' must be a list of at least one.*got \[\]"),
        ({"type": "cnn", "convs": []}, ATARI, r"'convs'.*got \[\].*'mlp'"),
        ({"type": "cnn", "convs": [16, 3, 1]}, ATARI, r"'convs'.*\[filters, kernel size, stride\]"),
        ({"type": "cnn", "convs": [[16, 3]]}, ATARI, r"got \[\[16, 3\]\]"),
        ({"type": "cnn", "convs": [[16, 3, 0]]}, ATARI, "'convs' must be a positive integer; got 0"),
    ],
)  # fmt: skip
def test_that_bad_sizes_and_options_end_in_one_line(config, shape, says):
    with pytest.raises(DistillError, match=says) as error, torch.device("meta"):
        build_network(config, shape, num_outputs=3)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("config", "least"), [({"type": "nature_cnn"}, 36), ({"type": "actor_mimic_cnn"}, 52)]
)
def test_that_the_least_size_is_what_the_message_says(config, least):
    with torch.device("meta"):
        build_network(config, (least, least, 4), 3)
        with pytest.raises(DistillError, match=f"at least {least}"):
            build_network(config, (least, least - 1, 4), 3)
