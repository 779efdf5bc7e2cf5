"""Networks from their configs: the papers' sizes, a torso of the user's own, and mistakes in one line."""

import pytest
import torch
from torch import nn

from rllib_distill.errors import DistillError
from rllib_distill.networks import build_network

ATARI, MINATAR = (84, 84, 4), (10, 10, 10)
# The minimal action sets of xitari, as the paper had them: 12 and 85 actions in all.
THREE_GAMES = {"pong": 3, "freeway": 3, "qbert": 6}
TEN_GAMES = THREE_GAMES | {
    "breakout": 4,
    "space_invaders": 6,
    "beam_rider": 9,
    "enduro": 9,
    "ms_pacman": 9,
    "riverraid": 18,
    "seaquest": 18,
}


def count_of(config, shape, num_outputs):
    with torch.device("meta"):
        return sum(p.numel() for p in build_network(config, shape, num_outputs).parameters())


@pytest.mark.parametrize(
    ("name", "num_outputs", "count"),
    [
        ("nature_cnn", 18, 1_693_362),
        ("cnn", 18, 1_693_362),
        ("actor_mimic_cnn", 18, 35_216_146),
        ("distillation_net1", 18, 427_874),
        ("distillation_net2", 18, 113_346),
        ("distillation_net3", 18, 61_954),
        ("multi_distillation", THREE_GAMES, 1_882_668),
        ("multi_distillation_large", TEN_GAMES, 6_756_721),
    ],
)
def test_atari_networks_have_the_papers_sizes(name, num_outputs, count):
    assert count_of({"type": name}, ATARI, num_outputs) == count


def test_actor_mimics_feature_regression_has_the_papers_size():
    with torch.device("meta"):
        features = build_network({"type": "actor_mimic_cnn"}, ATARI, 18).feature_size
        assert sum(p.numel() for p in nn.Linear(features, 512).parameters()) == 524_800


@pytest.mark.parametrize(
    ("name", "count", "percent"),
    [
        ("minatar_cnn", 133_430, 100),
        ("minatar_net1", 33_950, 25),
        ("minatar_net2", 9_575, 7),
        ("minatar_net3", 5_630, 4),
    ],
)
def test_minatar_students_are_the_same_fractions_of_their_teacher(name, count, percent):
    assert count_of({"type": name}, MINATAR, 6) == count
    assert round(100 * count / count_of({"type": "minatar_cnn"}, MINATAR, 6)) == percent


def test_options_override_a_names_own():
    full = {"type": "minatar_cnn", "filters": 4, "hidden": 9}
    assert count_of({"type": "minatar_net2", "hidden": 9}, MINATAR, 6) == count_of(full, MINATAR, 6)
    without = {"type": "multi_distillation", "controller": None}
    assert count_of(without, ATARI, 18) == count_of({"type": "nature_cnn"}, ATARI, 18)


MY_MODULE = "tests.networks.my_torso"
MINE = f"{MY_MODULE}:MyTorso"


def test_a_users_torso_takes_its_options_and_the_layers_after_a_torso():
    network = build_network({"type": MINE, "units": 4, "controller": 7, "lstm": 6}, (2, 3), {"a": 3, "b": 2})
    assert network.torso.first.weight.shape == (4, 6)
    assert network.core.input_size == 4 and network.feature_size == 6
    assert network.head["b"].controller.weight.shape == (7, 6)
    pixels = torch.randint(0, 256, (3, 2, 3), dtype=torch.uint8)
    bare = build_network({"type": MINE}, (2, 3), 4)
    assert bare.feature_size == 5 and torch.equal(bare.of_rows(pixels)[1], bare.torso(pixels / 255.0))


@pytest.mark.parametrize(
    ("config", "shape", "says"),
    [
        # The type.
        ({"type": "minatar_cn"}, MINATAR, "'minatar_cn'.*Did you mean 'minatar_cnn'"),
        ({"type": "distilation_net1"}, ATARI, "'distilation_net1'.*you mean 'distillation_net1'.*MyTorso"),
        ({"type": "tabula"}, (3,), "'tabula'. Did you mean 'tabular'"),
        ({"filters": 16}, MINATAR, "mapping with a 'type'.*minatar_cnn"),
        ({"type": ["mlp"]}, MINATAR, "mapping with a 'type'"),
        ("mlp", MINATAR, "mapping with a 'type'; got 'mlp'"),
        # Options that the type does not have.
        ({"type": "minatar_cnn", "filter": 3}, MINATAR, "'filter'.*Did you mean 'filters'"),
        ({"type": "distillation_net1", "filter": 3}, ATARI, "'distillation_net1'.*Did you mean 'filters'"),
        ({"type": "nature_cnn", "hiddens": [5]}, ATARI, "'hiddens'.*Did you mean 'hidden'"),
        ({"type": "actor_mimic_cnn", "hidden": 5}, ATARI, "'hidden'.*Known: controller"),
        ({"type": "linear", "hidden": 3}, (4,), "'hidden'.*Known: controller"),
        ({"type": "mlp", "controler": 3}, (4,), "'controler' .* type 'mlp'.*Did you mean 'controller'"),
        ({"type": "mlp", "lsmt": 6}, (4,), "'lsmt'.*Did you mean 'lstm'"),
        ({"type": "tabular", "lstm": 6}, (3,), "Unknown option 'lstm' of the network type 'tabular'"),
        ({"type": "tabular", "controller": 6}, (3,), "Unknown option 'controller' of .* 'tabular'"),
        # Values of options.
        ({"type": "minatar_cnn", "filters": 0}, MINATAR, "'filters' is 0; it must be an integer >= 1"),
        ({"type": "minatar_cnn", "hidden": "128"}, MINATAR, r"'hidden' is '128' \(str\); it must be an int"),
        ({"type": "minatar_cnn", "hidden": True}, MINATAR, "'hidden' is True"),
        ({"type": "distillation_net1", "hidden": 0}, ATARI, "'hidden' is 0; it must be an integer >= 1"),
        ({"type": "multi_distillation", "controller": 0}, ATARI, "'controller' is 0; it must be an integer"),
        ({"type": "mlp", "lstm": 0}, (3,), "'lstm' is 0; it must be an integer >= 1"),
        ({"type": "mlp", "lstm": True}, (3,), r"'lstm' is True \(bool\); it must be an integer >= 1"),
        ({"type": "mlp", "hiddens": 256}, (4,), "'hiddens' is 256; it must be a list"),
        ({"type": "mlp", "hiddens": []}, (4,), r"'hiddens' is \[\]; .*'linear'"),
        ({"type": "mlp", "hiddens": [8, -1]}, (4,), "'hiddens' is -1; it must be an integer >= 1"),
        ({"type": "nature_cnn", "filters": [32, 64]}, ATARI, r"is \[32, 64\]; it must be a list of 3"),
        ({"type": "nature_cnn", "filters": 32}, ATARI, "'filters' is 32; it must be a list of 3"),
        ({"type": "nature_cnn", "hidden": 0}, ATARI, "'hidden' is 0; it must be an integer >= 1"),
        ({"type": "cnn", "hiddens": []}, ATARI, r"'hiddens' is \[\]; it must be a list of at least one"),
        ({"type": "cnn", "convs": []}, ATARI, r"'convs' is \[\]; .*'mlp'"),
        ({"type": "cnn", "convs": [16, 3, 1]}, ATARI, r"'convs'.*\[filters, kernel size, stride\]"),
        ({"type": "cnn", "convs": [[16, 3]]}, ATARI, r"'convs' is \[\[16, 3\]\]"),
        ({"type": "cnn", "convs": [[16, 3, 0]]}, ATARI, "an entry of .* 'convs' is 0; it must be an integer"),
        # Observations that the type cannot take.
        ({"type": "minatar_cnn"}, (4,), r"\(H, W, C\).*got \(4,\).*'mlp'"),
        ({"type": "minatar_cnn"}, (2, 10, 4), r"got \(2, 10, 4\)"),
        ({"type": "nature_cnn"}, (20, 84, 4), r"\(20, 84, 4\).*convolution 3 of 3 is 3x3 and gets 1x9"),
        ({"type": "nature_cnn"}, (35, 35, 4), r"convolution 3 of 3 is 3x3 and gets 2x2. .*at least 36"),
        ({"type": "nature_cnn"}, (4, 84, 84), r"\(4, 84, 84\) \(H, W, C\).*convolution 1 of 3"),
        ({"type": "actor_mimic_cnn"}, (51, 84, 4), r"convolution 4 of 4 is 3x3 and gets 2x7.*at least 52"),
        ({"type": "nature_cnn"}, (84, 84), r"needs observations \(H, W, C\); got \(84, 84\).*'mlp'"),
        ({"type": "cnn"}, (4,), r"got \(4,\).*'mlp'"),
        # Torsos of the user's own.
        ({"type": MINE, "unit": 3}, (3,), "'unit' of the network type '.*:MyTorso'. Did you mean 'units'"),
        ({"type": f"{MINE}s"}, (3,), "has no 'MyTorsos'. Did you mean 'MyTorso'"),
        ({"type": "no_such_package:MyTorso"}, (3,), "no module 'no_such_package'"),
        ({"type": f"{MY_MODULE}:prod"}, (3,), r"\(builtin_function_or_method\); it must be a class"),
        ({"type": f"{MY_MODULE}:WithoutSize"}, (3,), ":WithoutSize' has no feature_size: in its __init__"),
    ],
)  # fmt: skip
def test_a_mistake_ends_in_one_line(config, shape, says):
    with pytest.raises(DistillError, match=says) as error, torch.device("meta"):
        build_network(config, shape, num_outputs=3)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("config", "least"), [({"type": "nature_cnn"}, 36), ({"type": "actor_mimic_cnn"}, 52)]
)
def test_the_least_size_is_what_the_message_says(config, least):
    with torch.device("meta"):
        build_network(config, (least, least, 4), 3)
        with pytest.raises(DistillError, match=f"at least {least}"):
            build_network(config, (least, least - 1, 4), 3)
