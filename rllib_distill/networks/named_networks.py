"""Sizes of networks with a name of their own; further options override them.

Policy Distillation's teacher is 'nature_cnn' (Rusu et al., 2016, table 1). Its students of one game have 25,
7 and 4 % of the teacher's parameters; those of several games are as large as one teacher and as four, with a
controller for each game. The MinAtar students are the same fractions of 'minatar_cnn'.
"""

from collections.abc import Mapping
from typing import Any

NAMED_NETWORKS: Mapping[str, Mapping[str, Any]] = {
    "distillation_net1": {"type": "nature_cnn", "filters": [16, 32, 32], "hidden": 256},
    "distillation_net2": {"type": "nature_cnn", "filters": [16, 16, 16], "hidden": 128},
    "distillation_net3": {"type": "nature_cnn", "filters": [16, 16, 16], "hidden": 64},
    "multi_distillation": {"type": "nature_cnn", "controller": 128},
    "multi_distillation_large": {
        "type": "nature_cnn",
        "filters": [64, 64, 64],
        "hidden": 1500,
        "controller": 128,
    },
    "minatar_net1": {"type": "minatar_cnn", "filters": 8, "hidden": 64},
    "minatar_net2": {"type": "minatar_cnn", "filters": 4, "hidden": 35},
    "minatar_net3": {"type": "minatar_cnn", "filters": 4, "hidden": 20},
}
