"""Named networks have the papers' sizes, and further options override theirs."""

import pytest
import torch

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
        ("distillation_net1", 18, 427_874),
        ("distillation_net2", 18, 113_346),
        ("distillation_net3", 18, 61_954),
        ("multi_distillation", THREE_GAMES, 1_882_668),
        ("multi_distillation_large", TEN_GAMES, 6_756_721),
    ],
)
def test_that_policy_distillations_networks_have_the_papers_sizes(name, num_outputs, count):
    assert count_of({"type": name}, ATARI, num_outputs) == count


@pytest.mark.parametrize(
    ("name", "count", "percent"),
    [("minatar_net1", 33_950, 25), ("minatar_net2", 9_575, 7), ("minatar_net3", 5_630, 4)],
)
def test_that_minatar_students_are_the_same_fractions_of_their_teacher(name, count, percent):
    assert count_of({"type": name}, MINATAR, 6) == count
    assert round(100 * count / count_of({"type": "minatar_cnn"}, MINATAR, 6)) == percent


def test_that_options_override_a_names_own():
    full = {"type": "minatar_cnn", "filters": 4, "hidden": 9}
    assert count_of({"type": "minatar_net2", "hidden": 9}, MINATAR, 6) == count_of(full, MINATAR, 6)
    without = {"type": "multi_distillation", "controller": None}
    assert count_of(without, ATARI, 18) == count_of({"type": "nature_cnn"}, ATARI, 18)


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"type": "distilation_net1"}, "'distilation_net1'.*Did you mean 'distillation_net1'.*minatar_net1"),
        ({"type": "distillation_net1", "filter": 3}, "type 'distillation_net1'.*Did you mean 'filters'"),
        ({"type": "distillation_net1", "hidden": 0}, "'hidden' must be a positive integer; got 0"),
        ({"type": "multi_distillation", "controller": 0}, "'controller' must be a positive integer; got 0"),
        ({"type": "mlp", "controler": 3}, "'controler' of the network type 'mlp'.*Did you mean 'controller'"),
    ],
)
def test_that_bad_options_of_named_networks_end_in_one_line(config, says):
    with pytest.raises(DistillError, match=says) as error, torch.device("meta"):
        build_network(config, ATARI, 18)
    assert "\n" not in str(error.value)
