"""Plain torch networks as RLModules, with target networks where they are wanted."""

from collections.abc import Iterable, Mapping
from dataclasses import fields
from typing import Any

import torch
from ray.rllib.core.columns import Columns
from ray.rllib.core.learner.utils import make_target_network, update_target_network
from ray.rllib.core.rl_module.apis import InferenceOnlyAPI, TargetNetworkAPI
from ray.rllib.core.rl_module.torch.torch_compile_config import TorchCompileConfig
from ray.rllib.core.rl_module.torch.torch_rl_module import TorchRLModule
from typing_extensions import override

from rllib_distill.errors import DistillError
from rllib_distill.networks import Network, NetworkOutputs, build_network
from rllib_distill.replay import Batch

_NETWORK, _OF_TASK = "network.", "network.head.of_"


_ADVICE = "Set network and tasks as they were when the checkpoint was made, or start without it."


def check_same_network(state: Mapping[str, Any], own: Mapping[str, Any], advice: str = _ADVICE) -> None:
    """Raises DistillError unless `state` has the same network's weights as `own`, whatever else they have.

    Args:
        state: Weights from elsewhere.
        own: The module's weights.
        advice: What to do about a difference, for the message.
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


TASKS = "tasks"
"""Batch key: names of the rows' tasks."""

IS_FIRST = "is_first"
"""Batch key: which rows begin an episode."""


class NetworkRLModule(TorchRLModule):
    """A network over its tasks' common actions: Q-values or logits, from which the env runner picks actions.

    Where it learns it is given a `Batch`. Where it acts it is given a dict with `obs`,
    `(N, 1, B, *observation)` of the N `tasks`, their `state_in` `(N, B, S)` and `is_first` `(N, 1, B)`; rows
    alone, `obs` `(B, *observation)`, are fine for a network without a head per task, as with any RLModule.
    """

    network: Network

    @override
    def setup(self) -> None:
        """Builds `model_config["network"]` for this module's spaces."""
        super().setup()
        config = self.model_config
        self.network = build_network(
            config["network"],
            self.observation_space.shape,
            config.get("heads") or int(self.action_space.n),
            num_values=config.get("num_values", 0),
            mixed_precision=config.get("mixed_precision", False),
        )

    @override
    def compile(self, compile_config: TorchCompileConfig) -> None:
        """Compiles the networks in place, at their next forward; names of weights stay what they are.

        RLlib's way, compiling `_forward_train`, would leave out target networks.
        """
        for network in self.children():
            if isinstance(network, Network):
                network.compile(
                    backend=compile_config.torch_dynamo_backend,
                    mode=compile_config.torch_dynamo_mode,
                    **compile_config.kwargs,
                )

    @override
    def train(self, mode: bool = True) -> "NetworkRLModule":
        """Sets the mode; free where nothing changes, since RLlib calls it before every forward."""
        return self if self.training == mode else super().train(mode)

    @override
    def set_state(self, state: Mapping[str, Any]) -> None:
        """Takes over weights.

        Raises:
            DistillError: They are another network's, of which RLlib would leave out what does not fit.
        """
        check_same_network(state, self.state_dict())
        super().set_state(state)

    @override
    def _forward_train(self, batch: Batch, **kwargs: Any) -> NetworkOutputs:
        rows, state, is_first, k = batch.observations, batch.state, batch.is_first, batch.burn_in
        if not k or is_first is None:
            return self._outputs_of(rows, batch.tasks, state, is_first)
        with torch.no_grad():  # the burn-in makes a state, and no gradient (Kapturowski et al., 2019)
            warm = self._outputs_of(rows[:, :k], batch.tasks, state, is_first[:, :k])
        rest = self._outputs_of(rows[:, k:], batch.tasks, warm.states[:, -1], is_first[:, k:])
        parts = ([getattr(part, field.name) for part in (warm, rest)] for field in fields(NetworkOutputs))
        return NetworkOutputs(*(torch.cat(part, dim=1) for part in parts))

    def _outputs_of(self, *inputs: Any) -> NetworkOutputs:
        outputs: NetworkOutputs = self.network(*inputs)
        return outputs

    @override
    def _forward(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        return act_with(self.network, batch, self.observation_space.shape)


def act_with(
    network: Network, batch: Mapping[str, Any], observation_shape: tuple[int, ...]
) -> dict[str, Any]:
    """Computes a network's outputs for one step under RLlib's keys; see `NetworkRLModule`."""
    rows = batch[Columns.OBS]
    is_bare = rows.ndim == 1 + len(observation_shape)
    state, tasks = batch.get(Columns.STATE_IN), batch.get(TASKS)
    if is_bare:
        num_tasks = len(tasks or "1")
        rows = rows.unflatten(0, (num_tasks, 1, -1))
        state = None if state is None else state.unflatten(0, (num_tasks, -1))
    said = network(rows, tasks, state, batch.get(IS_FIRST))
    outputs, state = said.outputs[:, 0], said.states[:, 0]
    if is_bare:
        outputs, state = outputs.flatten(0, 1), state.flatten(0, 1)
    return {Columns.ACTION_DIST_INPUTS: outputs, Columns.STATE_OUT: state}


class TargetNetworkRLModule(NetworkRLModule, InferenceOnlyAPI, TargetNetworkAPI):
    """A network that acts and learns; it has a target network in learners only."""

    target_network: Network

    @override
    def make_target_networks(self) -> None:
        self.target_network = make_target_network(self.network)

    @override
    def get_target_network_pairs(self) -> list[tuple[Any, Any]]:
        return [(self.network, self.target_network)]

    @override
    def forward_target(self, batch: dict[str, Any]) -> Any:
        """Computes target Q-values `(B, A)` of `batch["obs"]`."""
        said = act_with(self.target_network, batch, self.observation_space.shape)
        return said[Columns.ACTION_DIST_INPUTS]

    @override
    def set_state(self, state: Mapping[str, Any]) -> None:
        """Takes over weights; a target network that has none among them becomes a copy."""
        super().set_state(state)
        for network, target in self.get_target_network_pairs() if hasattr(self, "target_network") else ():
            if not any(name.startswith("target_network.") for name in state):
                target.load_state_dict(network.state_dict())

    @override
    def get_non_inference_attributes(self) -> list[str]:
        return ["target_network"]


def update_target_networks(modules: Iterable[Any], share: float) -> None:
    """Moves every target network by `share` of the way to its network; 1 makes it a copy."""
    for module in modules:
        pairs = module.get_target_network_pairs() if isinstance(module, TargetNetworkAPI) else ()
        for network, target in pairs:
            update_target_network(main_net=network, target_net=target, tau=share)


def acting_forward(module: Any, **others: Any) -> Any:
    """Makes an `actors.Forward` of an RLModule, or of a MultiRLModule that acts for several tasks.

    Args:
        module: The module, whose `forward_inference` is called.
        others: Further entries of the batch.
    """

    def forward(
        observations: torch.Tensor, tasks: tuple[str, ...], state: torch.Tensor, is_first: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        batch = {Columns.OBS: observations, TASKS: tasks, Columns.STATE_IN: state, IS_FIRST: is_first}
        said = module.forward_inference({**batch, **others})
        return said[Columns.ACTION_DIST_INPUTS], said[Columns.STATE_OUT]

    return forward
