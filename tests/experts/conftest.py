"""A small expert to write, break and load."""

import pytest
import torch

from rllib_distill.experts import Expert, ExpertInfo
from rllib_distill.networks import build_network

MEANINGS = ("n", "l", "u", "r", "d", "f")


@pytest.fixture
def make_expert():
    """Returns a function that makes an expert with random weights; keyword arguments change its info."""

    def make(**changes):
        values = {
            "task": "breakout",
            "env": "MinAtar/Breakout-v0",
            "kind": "q_values",
            "network": {"type": "minatar_cnn", "filters": 4, "hidden": 8},
            "observation_shape": (10, 10, 4),
            "observation_dtype": "bool",
            "num_actions": 6,
            "action_meanings": MEANINGS,
            "preprocessing": {},
            "expected_return": {"mean": 12.5, "std": 5.25, "episodes": 100, "epsilon": 0.01},
            "made_by": {"algorithm": "MultiTaskDQN", "seed": 0},
        } | changes
        info = ExpertInfo(**values)
        network = build_network(info.network, info.observation_shape, info.num_actions)
        return Expert(info, network.state_dict())

    return make


@pytest.fixture
def saved(make_expert, tmp_path):
    """The path of an expert that was saved."""
    path = tmp_path / "breakout.safetensors"
    make_expert().save(path)
    return path


@pytest.fixture
def observations():
    """MinAtar-like observations (8, 4, 10, 10, 4) bool: 8 steps of 4 environments."""
    return torch.rand(8, 4, 10, 10, 4, generator=torch.Generator().manual_seed(0)) < 0.3


@pytest.fixture
def is_first():
    """(8, 4) bool: episodes begin at other steps of each environment, one of them at the first."""
    return torch.rand(8, 4, generator=torch.Generator().manual_seed(1)) < 0.3
