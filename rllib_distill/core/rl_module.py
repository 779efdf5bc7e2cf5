"""Plain torch networks as RLModules, with target networks where they are wanted."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from ray.rllib.core.columns import Columns
from ray.rllib.core.learner.utils import make_target_network, update_target_network
from ray.rllib.core.rl_module.apis import InferenceOnlyAPI, TargetNetworkAPI
from ray.rllib.core.rl_module.torch.torch_compile_config import TorchCompileConfig
from ray.rllib.core.rl_module.torch.torch_rl_module import TorchRLModule
from ray.rllib.utils.annotations import override
from torch import nn

from rllib_distill.errors import DistillError
from rllib_distill.networks import Network, build_network
from rllib_distill.replay.fragment import TASKS

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


FEATURES = "features"


class NetworkRLModule(TorchRLModule):
    """A Q-value or logit per action and the features it is made of; the runner picks the action."""

    network: Any  # torch's, with what the subclass's network has

    def setup(self) -> None:
        """Builds `model_config["network"]` for this module's spaces."""
        super().setup()
        self.network = self.build_network()

    def build_network(self) -> nn.Module:
        """What this module consists of."""
        return build_network(
            self.model_config["network"],
            self.observation_space.shape,
            self.model_config["heads"] or int(self.action_space.n),
            mixed_precision=self.model_config.get("mixed_precision", False),
        )

    def compile(self, compile_config: TorchCompileConfig) -> None:
        """Compiles the networks in place, at their next forward; names of weights stay what they are.

        RLlib's way, compiling `_forward_train`, would leave out target networks.
        """
        # All networks share one `forward`, and torch gives up after 8 versions of a function: one for each
        # network's sizes, with and without gradients.
        limits = torch._dynamo.config
        limits.recompile_limit = max(limits.recompile_limit, limits.accumulated_recompile_limit)
        for network in self.children():
            if isinstance(network, Network):
                network.compile(
                    backend=compile_config.torch_dynamo_backend,
                    mode=compile_config.torch_dynamo_mode,
                    **compile_config.kwargs,
                )

    def train(self, mode: bool = True) -> "NetworkRLModule":
        """As torch's, but free where nothing changes: RLlib asks before every forward."""
        return self if self.training == mode else super().train(mode)

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Takes over weights.

        Raises:
            DistillError: They are another network's: RLlib would leave out what does not fit, and play on.
        """
        check_same_network(state, self.state_dict())
        super().set_state(state)

    def _forward(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        outputs, features = self.network(batch[Columns.OBS], batch.get(TASKS))
        return {Columns.ACTION_DIST_INPUTS: outputs, FEATURES: features}


class TargetNetworkRLModule(NetworkRLModule, InferenceOnlyAPI, TargetNetworkAPI):
    """A network that acts and learns; its target network is a learner's matter."""

    @override(TargetNetworkAPI)
    def make_target_networks(self) -> None:
        """Copies the network."""
        self.target_network = make_target_network(self.network)

    @override(TargetNetworkAPI)
    def get_target_network_pairs(self) -> list[tuple[Any, Any]]:
        """See RLlib."""
        return [(self.network, self.target_network)]

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Takes over weights; where they come without a target network's, it becomes a copy."""
        super().set_state(state)
        for network, target in self.get_target_network_pairs() if hasattr(self, "target_network") else ():
            if not any(name.startswith("target_network.") for name in state):
                target.load_state_dict(network.state_dict())

    @override(InferenceOnlyAPI)
    def get_non_inference_attributes(self) -> list[str]:
        """See RLlib."""
        return ["target_network"]


def update_target_networks(modules: Iterable[Any], share: float) -> None:
    """Moves every target network by `share` of the way to its network; 1: makes it a copy."""
    for module in modules:
        pairs = module.get_target_network_pairs() if isinstance(module, TargetNetworkAPI) else ()
        for network, target in pairs:
            update_target_network(main_net=network, target_net=target, tau=share)
