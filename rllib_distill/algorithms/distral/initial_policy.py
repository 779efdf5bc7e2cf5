"""A head start: the distilled policy of another training, for the same network."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from ray.rllib.core.rl_module.rl_module import RLModule

from rllib_distill.algorithms.common.multi_task_algorithm import MODULES_FOLDER
from rllib_distill.algorithms.common.same_network import check_same_network
from rllib_distill.errors import DistillError

_DISTILLED, _NETWORK, _VALUES, _POLICY = "distilled", "network.", "value_head", "policy_head"


def check_initial_policy(config: Any) -> None:
    """Raises DistillError unless `init_from` has a distilled policy that fits the config's networks."""
    with torch.device("meta"):
        own = config.build_network_of(next(iter(config.policies)))
    check_same_network(
        {_NETWORK + name: weights for name, weights in read_distilled_policy(config.init_from).items()},
        {_NETWORK + name: weights for name, weights in own.state_dict().items() if not _is_value(name)},
    )


def read_distilled_policy(checkpoint: str | Path) -> dict[str, torch.Tensor]:
    """Weights of a checkpoint's distilled policy, without value heads.

    Raises:
        DistillError: There is no such checkpoint, or it has no distilled policy.
    """
    folder = Path(checkpoint) / MODULES_FOLDER / _DISTILLED
    if not folder.is_dir():
        raise DistillError(
            f"init_from is {str(checkpoint)!r}, which is no checkpoint with a distilled policy: give the "
            "folder of one that Distral wrote, such as results/<experiment>/<trial>/checkpoint_000000."
        )
    weights = RLModule.from_checkpoint(folder.resolve()).state_dict()
    return {
        name.removeprefix(_NETWORK): weight
        for name, weight in weights.items()
        if name.startswith(_NETWORK) and not _is_value(name.removeprefix(_NETWORK))
    }


def start_from(weights: Mapping[str, torch.Tensor], modules: Mapping[str, Any], *, two_column: bool) -> None:
    """Gives all modules the distilled policy's weights.

    Args:
        weights: Of `read_distilled_policy`.
        modules: Module id -> RLModule.
        two_column: Whether a task network's outputs are added to the distilled policy's: then it gets the
            features, and its outputs stay at zero.
    """
    features = {name: weight for name, weight in weights.items() if not name.startswith(_POLICY)}
    for module_id, module in modules.items():
        added = two_column and module_id != _DISTILLED
        module.network.load_state_dict(features if added else weights, strict=False)


def _is_value(name: str) -> bool:
    return name.startswith(_VALUES)
