"""Whether weights from elsewhere are those of a module's network."""

from collections.abc import Mapping
from typing import Any

from rllib_distill.errors import DistillError

_NETWORK, _OF_TASK = "network.", "network.head.of_"


_ADVICE = "Set network and tasks as they were when the checkpoint was made, or start without it."


def check_same_network(state: Mapping[str, Any], own: Mapping[str, Any], advice: str = _ADVICE) -> None:
    """Raises DistillError unless `state` has the same network's weights as `own`, whatever else they have.

    Args:
        state: Weights from elsewhere.
        own: The module's.
        advice: What to do about it, for the message.
    """
    shapes, own_shapes = _shapes(state), _shapes(own)
    if shapes == own_shapes:
        return
    heads, own_heads = _heads(shapes), _heads(own_shapes)
    if heads != own_heads:
        raise DistillError(
            f"The weights are of a network with {heads}, but this one has {own_heads}. Set heads and tasks "
            "as they were when the checkpoint was made, or start without it."
        )
    different = sorted(name for name in {*shapes, *own_shapes} if shapes.get(name) != own_shapes.get(name))
    name = different[0]
    raise DistillError(
        f"The weights are of another network: {name!r} is {shapes.get(name, 'missing')} in them and "
        f"{own_shapes.get(name, 'missing')} here. {advice}"
    )


def _shapes(state: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in state.items() if name.startswith(_NETWORK)}


def _heads(names: Mapping[str, Any]) -> str:
    of_tasks = [name.removeprefix(_OF_TASK).split(".")[0] for name in names if name.startswith(_OF_TASK)]
    tasks = [task.replace(":", ".") for task in dict.fromkeys(of_tasks)]
    return f"one head per task ({', '.join(tasks)})" if tasks else "one shared head"
