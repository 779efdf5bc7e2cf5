"""What RLlib asks an env runner for: modules, spaces, the state that weight syncs and checkpoints carry."""

from collections.abc import Collection, Mapping
from typing import Any, cast

import ray
from gymnasium.spaces import Discrete
from ray.rllib.core import COMPONENT_RL_MODULE
from ray.rllib.core.rl_module.multi_rl_module import MultiRLModule
from ray.rllib.env import INPUT_ENV_SINGLE_SPACES
from ray.rllib.utils.checkpoints import Checkpointable
from ray.rllib.utils.metrics import NUM_ENV_STEPS_SAMPLED_LIFETIME, WEIGHTS_SEQ_NO


class RunnerState(Checkpointable):
    """Half of `MultiTaskEnvRunner`, which sets the attributes."""

    config: Any
    module: MultiRLModule | None
    num_env_steps_sampled_lifetime: int
    _device: Any
    _weights_seq_no: int

    def make_module(self) -> None:
        """Builds the inference-only modules."""
        self.module = self.config.get_multi_rl_module_spec(inference_only=True).build()
        for module_id in self.module.keys():  # a MultiRLModule is no mapping
            self.module[module_id].to(self._device).eval()
            if self.config.torch_compile_worker:
                self.module[module_id].compile(self.config.get_torch_compile_worker_config())

    def assert_healthy(self) -> None:
        """See RLlib."""
        assert self.module is not None

    def get_spaces(self) -> dict[str, Any]:
        """Module id -> (observation space, action space), and the tasks' own under RLlib's key."""
        specs = self.config.get_multi_rl_module_spec().rl_module_specs
        modules = {mid: (spec.observation_space, spec.action_space) for mid, spec in specs.items()}
        own: dict[str, Any] = {
            name: (task.observation_space, Discrete(task.num_actions))
            for name, task in self.config.task_set.items()
        }
        return {INPUT_ENV_SINGLE_SPACES: own, **modules}

    def get_state(
        self,
        components: str | Collection[str] | None = None,
        *,
        not_components: str | Collection[str] | None = None,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """The step counter and, unless left out, the modules' weights. Experts are never part of it."""
        state: dict[str, Any] = {NUM_ENV_STEPS_SAMPLED_LIFETIME: self.num_env_steps_sampled_lifetime}
        if self._check_component(COMPONENT_RL_MODULE, components, not_components):
            state[COMPONENT_RL_MODULE] = cast(MultiRLModule, self.module).get_state(**kwargs)
            state[WEIGHTS_SEQ_NO] = self._weights_seq_no
        return state

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Takes over weights and the step counter.

        Weights with a lower number than its own, too, which RLlib's runners refuse: they come from an older
        checkpoint that was restored. States arrive in the order in which they were sent.
        """
        if COMPONENT_RL_MODULE in state:
            weights = state[COMPONENT_RL_MODULE]
            weights = ray.get(weights) if isinstance(weights, ray.ObjectRef) else weights
            cast(MultiRLModule, self.module).set_state(weights)
            self._weights_seq_no = state.get(WEIGHTS_SEQ_NO, self._weights_seq_no)
        if NUM_ENV_STEPS_SAMPLED_LIFETIME in state:
            self.num_env_steps_sampled_lifetime = state[NUM_ENV_STEPS_SAMPLED_LIFETIME]

    def get_ctor_args_and_kwargs(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """See RLlib's Checkpointable."""
        return (), {"config": self.config}

    def get_checkpointable_components(self) -> list[tuple[str, Any]]:
        """See RLlib's Checkpointable."""
        return [(COMPONENT_RL_MODULE, self.module)]
