"""A head start: the distilled policy of another training, for the same network."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from ray.rllib.core.rl_module.rl_module import RLModule

from rllib_distill.algorithms.common.multi_task_algorithm import MODULES_FOLDER
from rllib_distill.algorithms.common.paths import newest_checkpoint
from rllib_distill.algorithms.common.same_network import check_same_network
from rllib_distill.errors import DistillError
from rllib_distill.networks import scale_logits

_DISTILLED, _NETWORK, _VALUES = "distilled", "network.", "value_head"


def check_initial_policy(config: Any) -> None:
    """Raises DistillError unless `init_from` has a distilled policy that fits the config's networks."""
    with torch.device("meta"):
        own = config.build_network_of(next(iter(config.policies)))
    check_same_network(
        {_NETWORK + name: weights for name, weights in read_distilled_policy(config.init_from).items()},
        {_NETWORK + name: weights for name, weights in own.state_dict().items() if not _is_value(name)},
        "Give init_from a checkpoint of the same network, whose tasks (others, maybe) have observations and "
        "actions of the same shapes; or remove init_from.",
    )


def read_distilled_policy(checkpoint: str | Path) -> dict[str, torch.Tensor]:
    """Weights of a checkpoint's distilled policy, without value heads.

    Raises:
        DistillError: There is no such checkpoint, or it has no distilled policy.
    """
    folder = Path(checkpoint) / MODULES_FOLDER / _DISTILLED
    if not folder.is_dir():
        raise DistillError(f"init_from is {str(checkpoint)!r}, which {_what_is_wrong(Path(checkpoint))}")
    weights = RLModule.from_checkpoint(folder.resolve()).state_dict()
    return {
        name.removeprefix(_NETWORK): weight
        for name, weight in weights.items()
        if name.startswith(_NETWORK) and not _is_value(name.removeprefix(_NETWORK))
    }


def start_from(weights: Mapping[str, torch.Tensor], module: Any, head_scale: float) -> None:
    """Gives a module the distilled policy's weights.

    Args:
        weights: Of `read_distilled_policy`.
        module: An RLModule.
        head_scale: Its first logits, as a multiple of the distilled policy's.
    """
    module.network.load_state_dict(weights, strict=False)  # which lack the value heads
    scale_logits(module.network, head_scale)


def _what_is_wrong(checkpoint: Path) -> str:
    if (checkpoint / MODULES_FOLDER).is_dir():
        return (
            "is a checkpoint without a distilled policy: take one of Distral with another variant than a3c, "
            "or of SoftQDistral."
        )
    inside = newest_checkpoint(checkpoint)
    if inside is not None:
        return f"is the folder of a trial; its checkpoint is {str(inside)!r}."
    what = "is no checkpoint" if checkpoint.exists() else "does not exist"
    return (
        f"{what}: give the folder of a checkpoint that Distral wrote, such as "
        "results/<experiment>/<trial>/checkpoint_000000."
    )


def _is_value(name: str) -> bool:
    return name.startswith(_VALUES)
