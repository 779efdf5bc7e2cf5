"""Base of our learners: it stores what env runners sampled and makes several gradient steps per update."""

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self

import ray
import torch
from ray.exceptions import ObjectLostError, OwnerDiedError
from ray.rllib.core.learner.torch.torch_learner import TorchLearner
from ray.rllib.core.learner.training_data import TrainingData
from ray.rllib.core.rl_module.apis import TargetNetworkAPI
from ray.rllib.utils.metrics import (
    ALL_MODULES,
    NUM_ENV_STEPS_SAMPLED_LIFETIME,
    NUM_ENV_STEPS_TRAINED,
    NUM_ENV_STEPS_TRAINED_LIFETIME,
)
from typing_extensions import override

from rllib_distill.core.optimizers import (
    average_gradients,
    broadcast_from_first_rank,
    lay_out_as_parameters,
    make_optimizer,
    zero_tiny_moments,
)
from rllib_distill.core.schedules import Elapsed, value_at
from rllib_distill.replay import Batch, Fragment
from rllib_distill.replay.host_buffers import tune_process

logger = logging.getLogger(__name__)


def rank_of(runner: int, turn: int, num_learners: int, num_env_runners: int) -> int:
    """The rank that gets a runner's samples: always the same, or in turn if there are more learners."""
    return (runner if num_env_runners >= num_learners else turn) % num_learners


def num_sources(rank: int, num_learners: int, num_env_runners: int) -> int:
    """How many runners' samples a learner gets by `rank_of`; a local runner counts as one."""
    if num_env_runners < num_learners:
        return max(1, num_env_runners)
    return sum(runner % num_learners == rank for runner in range(1, num_env_runners + 1))


class FragmentData(TrainingData):
    """Samples with the rank that each goes to; a sample is a list of fragments or a reference to one."""

    def __init__(self, samples: Sequence[tuple[int, Any]]):
        """Takes `(rank, sample)` pairs."""
        super().__init__()
        self.samples = list(samples)

    @override
    def validate(self) -> None:
        """Accepts any number of samples, none included."""

    @override
    def solve_refs(self) -> None:
        """Leaves references to `fragments`, which is called where the fragments are needed."""

    @override
    def shard(self, num_shards: int, len_lookback_buffer: int | None = None, **_: Any) -> list[Any]:
        """Splits into one `FragmentData` per rank, in RLlib's form."""
        return [
            (FragmentData([(rank, sample) for rank, sample in self.samples if rank == shard]), {})
            for shard in range(num_shards)
        ]

    def fragments(self) -> Iterator[Fragment]:
        """Fetches the fragments; a sample that was lost with its runner is left out and logged."""
        for _, sample in self.samples:
            try:
                yield from ray.get(sample) if isinstance(sample, ray.ObjectRef) else sample
            except (ObjectLostError, OwnerDiedError) as error:
                logger.warning(
                    "A sample was lost with the env runner that made it, which does no harm: %s", error
                )


NUM_UPDATES = "num_updates_lifetime"
PROGRESS = "progress"
"""Key of an update's `timesteps`: the share of the run that is done."""

MODULE_STATE_AFTER_UPDATE = "_rl_module_state_after_update"  # RLlib's key, where it has no constant


class Store(Protocol):
    """What keeps fragments until they are learned from."""

    def __len__(self) -> int:
        """How much is stored."""

    def add(self, fragment: Fragment) -> None:
        """Keeps a fragment."""


@dataclass(frozen=True)
class Loss:
    """What a loss function returns.

    Attributes:
        total: The scalar to descend.
        components: Name -> `(N, T, B)`: the loss's parts and other values for the metrics.
    """

    total: torch.Tensor
    components: Mapping[str, torch.Tensor]

    @classmethod
    def of_rows(cls, batch: Batch, per_row: torch.Tensor, components: Mapping[str, torch.Tensor]) -> Self:
        """Averages losses `(N, T, B)` over the rows of each task that count, then over tasks."""
        return cls(batch.mean(per_row).mean(), components)


class MultiTaskLearner(TorchLearner):
    """Base of our learners: makes gradient steps on what env runners sampled.

    An update stores new fragments in this rank's store, then makes `num_minibatches` gradient steps, the
    same number on every rank. Modules are not wrapped in DistributedDataParallel: see `average_gradients`.
    """

    store: Store

    @override
    def build(self) -> None:
        """Builds RLlib's modules and optimizers, then the store and equal weights on all ranks.

        Target networks, which no optimizer may see, follow, and at last networks are compiled if
        `torch_compile_learner` is set: RLlib passes over the modules of a MultiRLModule.
        """
        super().build()
        config, num_learners = self.config, max(1, self.config.num_learners)
        if config.tune_process:
            tune_process(compiles=config.torch_compile_learner)
        self.num_updates = 0
        self.logs_minibatch = False
        self.store = self.make_store(num_sources(self._learner_index, num_learners, config.num_env_runners))
        self._task_metrics: dict[tuple[str, str, tuple[str, ...]], torch.Tensor] = {}
        self.set_first_weights()
        if num_learners > 1:
            broadcast_from_first_rank(p for module in self.module.values() for p in module.parameters())
        for module in self.module.values():
            if isinstance(module, TargetNetworkAPI):
                module.make_target_networks()
            if config.torch_compile_learner:
                module.compile(self._torch_compile_cfg)

    def set_first_weights(self) -> None:
        """Changes the modules' first weights before they are copied; here it does nothing."""

    def make_store(self, num_env_runners: int) -> Store:
        """Makes what keeps fragments of this many env runners until they are learned from."""
        raise NotImplementedError

    def draw_minibatch(self) -> Any:
        """Draws what the next gradient step learns from; None if this rank has nothing."""
        raise NotImplementedError

    @property
    def num_logged_minibatches(self) -> int:
        """How many of an update's last minibatches log their metrics."""
        return 1

    @property
    def rows_per_minibatch(self) -> int:
        """Rows of a minibatch, all tasks together."""
        return int(self.config.train_batch_size_per_learner)

    @property
    def minibatch_weight(self) -> float:
        """Weight of this rank's minibatch among all ranks'."""
        return 1.0

    # -- updating ------------------------------------------------------------------------------------------

    @override
    def update(
        self,
        *,
        training_data: FragmentData | None = None,
        timesteps: Mapping[str, Any] | None = None,
        num_minibatches: int = 0,
        return_state: bool = False,
        **_: Any,
    ) -> Any:
        """Stores fragments and makes gradient steps.

        Args:
            training_data: New fragments; None stores nothing.
            timesteps: RLlib's counters and `PROGRESS`, for learning rate schedules.
            num_minibatches: How many gradient steps; 0 while replay buffers fill.
            return_state: Whether the result carries the modules' weights.

        Returns:
            Reduced metrics.

        Raises:
            RuntimeError: The loss became infinite or not a number.
        """
        for fragment in training_data.fragments() if training_data is not None else ():
            self.store.add(fragment)
        if num_minibatches:
            self._make_steps(num_minibatches, timesteps or {})
        result = self.metrics.reduce()
        if return_state:
            result[MODULE_STATE_AFTER_UPDATE] = self.get_state(components="rl_module", inference_only=True)
        return result

    def _make_steps(self, num_minibatches: int, timesteps: Mapping[str, Any]) -> None:
        self.before_gradient_based_update(timesteps=timesteps)
        self._set_learning_rates(
            Elapsed(timesteps.get(NUM_ENV_STEPS_SAMPLED_LIFETIME, 0), timesteps.get(PROGRESS, 0.0))
        )
        for i in range(num_minibatches):
            self.logs_minibatch = i >= num_minibatches - self.num_logged_minibatches
            _, losses, _ = self._update(self.draw_minibatch())
            self.num_updates += 1
            self.after_minibatch()
        self._weights_seq_no += 1
        self.after_gradient_based_update(timesteps=timesteps)
        self._log(losses, num_minibatches)

    def after_minibatch(self) -> None:
        """Is called after every gradient step, when `num_updates` counts it already."""

    @override
    def compute_loss_for_module(
        self, *, module_id: str, config: Any, batch: Batch, fwd_out: Any
    ) -> torch.Tensor:
        """Computes `loss_of_module`, and keeps its components for the metrics."""
        loss = self.loss_of_module(module_id, config, batch, fwd_out)
        self.keep_metrics(module_id, batch, loss.components)
        return loss.total

    def loss_of_module(self, module_id: str, config: Any, batch: Batch, outputs: Any) -> Loss:
        """Computes a module's loss from its batch and outputs; override it, or `compute_losses`."""
        raise NotImplementedError(f"{type(self).__name__} computes all modules' losses together.")

    @override
    def _uncompiled_update(self, batch: Any, **_: Any) -> tuple[Any, Any, Any]:
        losses: Mapping[str, torch.Tensor] = {}
        if batch is not None:  # else this rank has none, and follows the others
            losses = self.compute_losses(fwd_out=self.module.forward_train(batch), batch=batch)
        self.take_step(losses)
        return None, losses, {}

    def take_step(
        self, losses: Mapping[str, torch.Tensor], *, module_ids: Iterable[str] | None = None
    ) -> None:
        """Makes one step down the gradient of the sum of some modules' losses.

        Args:
            losses: Module id -> its loss; empty if this rank had no minibatch.
            module_ids: The modules that the step moves, the same on every rank; None for all.
        """
        gradients = self.compute_gradients(losses)
        if self.config.num_learners > 1:
            parameters = dict(self._params)
            if module_ids is not None:
                modules = [self.module[module_id] for module_id in module_ids]
                references = [self.get_param_ref(p) for m in modules for p in self.get_parameters(m)]
                # Modules have target networks' parameters too, which no optimizer has.
                parameters = {key: self._params[key] for key in references if key in self._params}
            if not average_gradients(parameters.values(), weight=self.minibatch_weight if losses else 0.0):
                return
            gradients = {reference: parameter.grad for reference, parameter in parameters.items()}
        self.apply_gradients(self.postprocess_gradients(gradients))

    @override
    def postprocess_gradients(self, gradients_dict: dict[Any, Any]) -> dict[Any, Any]:
        """Clips and logs gradients as RLlib does, if the config asks for it."""
        config = self.config
        of_modules = config.algorithm_config_overrides_per_module  # one of them may clip
        if config.grad_clip is None and not config.log_gradients and not of_modules:
            return gradients_dict
        result: dict[Any, Any] = super().postprocess_gradients(gradients_dict)
        return result

    @override
    def apply_gradients(self, gradients_dict: dict[Any, Any]) -> None:
        """Steps every optimizer; `update` checks the loss once per call, not each gradient as RLlib does."""
        for reference, gradient in gradients_dict.items():
            self._params[reference].grad = gradient
        for optimizer in self._named_optimizers.values():
            optimizer.step()
            if self.num_updates % 100 == 0:
                zero_tiny_moments(optimizer)

    @override
    def configure_optimizers_for_module(self, module_id: str, config: Any = None) -> None:
        """Makes the optimizer that the config names, without RLlib's schedules, which know no progress."""
        parameters = self.get_parameters(self.module[module_id])
        optimizer = make_optimizer(config.optimizer, parameters, lr=value_at(config.lr, Elapsed()))
        self.register_optimizer(module_id=module_id, optimizer=optimizer, params=parameters)

    def _set_learning_rates(self, elapsed: Elapsed) -> None:
        for module_id in self.module.keys():  # a MultiRLModule is no mapping
            lr = value_at(self.config.get_config_for_module(module_id).lr, elapsed)
            for _, optimizer in self.get_optimizers_for_module(module_id):
                self._set_optimizer_lr(optimizer, lr)

    @override
    def _make_modules_ddp_if_necessary(self) -> None:
        """Wraps no module: `average_gradients` does that work."""

    # -- metrics -------------------------------------------------------------------------------------------

    def keep_metrics(self, module_id: str, batch: Batch, components: Mapping[str, torch.Tensor]) -> None:
        """Remembers each task's means of `(N, T, B)` values, if this minibatch is one that is logged."""
        if self.logs_minibatch:
            for name, values in components.items():
                self._task_metrics[module_id, name, batch.tasks] = batch.mean(values.detach().float())

    def _log(self, losses: Mapping[str, torch.Tensor], num_minibatches: int) -> None:
        for module_id, loss in losses.items():
            value = float(loss.detach())
            if value != value or value in (float("inf"), float("-inf")):
                raise RuntimeError(
                    f"The loss of module {module_id!r} is {value} after {self.num_updates} updates: "
                    "lower lr or set grad_clip, and restart from the last checkpoint."
                )
            self.metrics.log_value((module_id, self.TOTAL_LOSS_KEY), value, window=1)
        for (module_id, name, tasks), per_task in self._task_metrics.items():
            for task, value in zip(tasks, per_task.tolist(), strict=True):
                self.metrics.log_value((module_id, name, task), value, window=1)
        self._task_metrics.clear()
        rows = num_minibatches * self.rows_per_minibatch
        self.metrics.log_value((ALL_MODULES, NUM_ENV_STEPS_TRAINED), rows, reduce="sum")
        self.metrics.log_value((ALL_MODULES, NUM_ENV_STEPS_TRAINED_LIFETIME), rows, reduce="lifetime_sum")
        self.metrics.log_value((ALL_MODULES, NUM_UPDATES), self.num_updates, reduce="max", window=1)

    # -- checkpoints ---------------------------------------------------------------------------------------

    @override
    def get_state(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """RLlib's state and the update counter; `save_store` saves what is stored."""
        state: dict[str, Any] = super().get_state(*args, **kwargs)
        return {**state, NUM_UPDATES: self.num_updates}

    @override
    def set_state(self, state: Mapping[str, Any]) -> None:
        self._weights_seq_no = 0  # else RLlib keeps its weights where an older checkpoint is restored
        super().set_state(state)
        for optimizer in self._named_optimizers.values():
            lay_out_as_parameters(optimizer)
        self.num_updates = state.get(NUM_UPDATES, self.num_updates)

    def save_store(self, folder: Path) -> None:
        """Writes what a checkpoint keeps of this rank's store; here it writes nothing."""

    def load_store(self, folder: Path) -> None:
        """Reads what `save_store` wrote."""
