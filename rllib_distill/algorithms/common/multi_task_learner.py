"""The learner that keeps the replay memory and makes several minibatches per call."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from ray.rllib.core.learner.torch.torch_learner import TorchLearner
from ray.rllib.core.rl_module.apis import TargetNetworkAPI
from ray.rllib.utils.metrics import (
    ALL_MODULES,
    NUM_ENV_STEPS_TRAINED,
    NUM_ENV_STEPS_TRAINED_LIFETIME,
)

from rllib_distill.algorithms.common.denormals import zero_tiny_moments
from rllib_distill.algorithms.common.fragment_data import FragmentData, num_sources
from rllib_distill.algorithms.common.gradients import average_gradients, broadcast_from_first_rank
from rllib_distill.algorithms.common.minibatch import Minibatches, OneTaskAtATime
from rllib_distill.algorithms.common.optimizer_memory import lay_out_as_parameters
from rllib_distill.algorithms.common.optimizers import make_optimizer
from rllib_distill.sampling import TaskReplay, keep_large_tensors_cheap

NUM_UPDATES = "num_updates_lifetime"
MODULE_STATE_AFTER_UPDATE = "_rl_module_state_after_update"  # RLlib's key, where it has no constant


class MultiTaskLearner(TorchLearner):
    """Base of our learners: override `compute_loss_for_module` and say which `columns` it reads.

    An update stores new fragments in this rank's shard of the replay memory, then makes `num_minibatches`
    gradient steps, the same number on every rank. Modules are not wrapped in DistributedDataParallel: see
    `average_gradients`. Metrics are those of the last minibatch (of the last few where each is of one task).
    """

    columns: tuple[str, ...] = ("observations",)

    def build(self) -> None:
        """Builds modules and optimizers (RLlib), then the replay memory and equal weights on all ranks.

        Then target networks, which no optimizer may see. Last, `torch_compile_learner` compiles all networks:
        RLlib's own attempt at it passes over the modules of a MultiRLModule.
        """
        super().build()
        keep_large_tensors_cheap()
        config, num_learners = self.config, max(1, self.config.num_learners)
        self.num_updates = 0
        self.logs_minibatch = False
        sources = num_sources(self._learner_index, num_learners, config.num_env_runners)
        self.replay = TaskReplay(
            config.task_set,
            capacity=self.replay_capacity(sources),
            num_sources=sources,
            seed=None if config.seed is None else config.seed + self._learner_index,
            **self.replay_options(),
        )
        self._minibatches = {
            module_id: self._minibatches_of(module_id)
            for module_id in self.module.keys()  # a MultiRLModule is no mapping
        }
        self._task_metrics: dict[tuple[str, str, tuple[str, ...]], torch.Tensor] = {}
        if num_learners > 1:
            broadcast_from_first_rank(p for module in self.module.values() for p in module.parameters())
        for module in self.module.values():
            if isinstance(module, TargetNetworkAPI):
                module.make_target_networks()
            if self.config.torch_compile_learner:
                module.compile(self._torch_compile_cfg)

    def _minibatches_of(self, module_id: str) -> Minibatches | OneTaskAtATime:
        config = self.config
        spaces, tasks = config.module_spaces(module_id), config.tasks_of_module(module_id)
        columns, batch_size = self.columns_of(module_id), config.train_batch_size_per_learner

        def of(tasks: tuple[str, ...], rows_per_task: int) -> Minibatches:
            return Minibatches(self.replay, spaces, tasks, rows_per_task, columns, self._device)

        if config.minibatch_is_of_one_task and len(tasks) > 1:
            return OneTaskAtATime(self.replay, {task: of((task,), batch_size) for task in tasks})
        return of(tasks, batch_size // len(config.task_set))

    def columns_of(self, module_id: str) -> tuple[str, ...]:
        """Replay columns that the module's loss reads."""
        return self.columns

    def replay_capacity(self, num_sources: int) -> int:
        """Transitions per task in this rank's shard, which so many env runners feed."""
        return -(-int(self.config.replay_capacity) // max(1, self.config.num_learners))

    def replay_options(self) -> dict[str, Any]:
        """What else the replay memory is made with."""
        return {}

    # -- updating ------------------------------------------------------------------------------------------

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
            timesteps: RLlib's counters, for learning rate schedules.
            num_minibatches: How many gradient steps; 0 while the replay memories fill.
            return_state: Whether the result carries the modules' weights.

        Returns:
            Reduced metrics.

        Raises:
            RuntimeError: The loss became infinite or not a number.
        """
        for fragment in training_data.fragments() if training_data is not None else ():
            self.replay.add(fragment)
        if num_minibatches:
            self._make_steps(num_minibatches, timesteps or {})
        result = self.metrics.reduce()
        if return_state:
            result[MODULE_STATE_AFTER_UPDATE] = self.get_state(components="rl_module", inference_only=True)
        return result

    def _make_steps(self, num_minibatches: int, timesteps: Mapping[str, Any]) -> None:
        self.before_gradient_based_update(timesteps=timesteps)
        logged = len(self.config.task_set) if self.config.minibatch_is_of_one_task else 1
        for i in range(num_minibatches):
            self.logs_minibatch = i >= num_minibatches - logged
            batch = {module_id: minibatch.draw() for module_id, minibatch in self._minibatches.items()}
            _, losses, _ = self._update(batch)
            self.num_updates += 1
            self.after_minibatch()
        self._weights_seq_no += 1
        self.after_gradient_based_update(timesteps=timesteps)
        self._log(losses, num_minibatches)

    def after_minibatch(self) -> None:
        """Called after every gradient step; `num_updates` counts it already."""

    def _uncompiled_update(self, batch: dict[str, Any], **_: Any) -> tuple[Any, Any, Any]:
        fwd_out = self.module.forward_train(batch)
        losses = self.compute_losses(fwd_out=fwd_out, batch=batch)
        gradients = self.compute_gradients(losses)
        if self.config.num_learners > 1:
            average_gradients(self._params.values())
            gradients = {ref: parameter.grad for ref, parameter in self._params.items()}
        self.apply_gradients(self.postprocess_gradients(gradients))
        return fwd_out, losses, {}

    def postprocess_gradients(self, gradients_dict: dict[Any, Any]) -> dict[Any, Any]:
        """RLlib's clipping and logging, where the config asks for any."""
        if self.config.grad_clip is None and not self.config.log_gradients:
            return gradients_dict
        result: dict[Any, Any] = super().postprocess_gradients(gradients_dict)
        return result

    def apply_gradients(self, gradients_dict: dict[Any, Any]) -> None:
        """Steps every optimizer; `update` checks the loss once per call, not each gradient as RLlib does."""
        for reference, gradient in gradients_dict.items():
            self._params[reference].grad = gradient
        for optimizer in self._named_optimizers.values():
            optimizer.step()
            if self.num_updates % 100 == 0:
                zero_tiny_moments(optimizer)

    def configure_optimizers_for_module(self, module_id: str, config: Any = None) -> None:
        """The optimizer that the config names, with RLlib's learning rate schedule."""
        parameters = self.get_parameters(self.module[module_id])
        self.register_optimizer(
            module_id=module_id,
            optimizer=make_optimizer(config.optimizer, parameters),
            params=parameters,
            lr_or_lr_schedule=config.lr,
        )

    def _make_modules_ddp_if_necessary(self) -> None:
        """Never: `average_gradients` does its work."""

    # -- metrics -------------------------------------------------------------------------------------------

    def keep_task_metric(
        self, module_id: str, name: str, tasks: tuple[str, ...], per_row: torch.Tensor
    ) -> None:
        """Remembers each task's mean of `(N, ...)` values; call it where `logs_minibatch` is set."""
        per_task = per_row.detach().float().view(len(tasks), -1).mean(1)
        self._task_metrics[module_id, name, tasks] = per_task

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
        rows = num_minibatches * self.config.train_batch_size_per_learner
        self.metrics.log_value((ALL_MODULES, NUM_ENV_STEPS_TRAINED), rows, reduce="sum")
        self.metrics.log_value((ALL_MODULES, NUM_ENV_STEPS_TRAINED_LIFETIME), rows, reduce="lifetime_sum")
        self.metrics.log_value((ALL_MODULES, NUM_UPDATES), self.num_updates, reduce="max", window=1)

    # -- checkpoints ---------------------------------------------------------------------------------------

    def get_state(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """RLlib's state and the update counter; the replay memory is saved by `save_replay`."""
        state: dict[str, Any] = super().get_state(*args, **kwargs)
        return {**state, NUM_UPDATES: self.num_updates}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Restores what `get_state` gave."""
        self._weights_seq_no = 0  # else RLlib keeps its weights where an older checkpoint is restored
        super().set_state(state)
        for optimizer in self._named_optimizers.values():
            lay_out_as_parameters(optimizer)
        self.num_updates = state.get(NUM_UPDATES, self.num_updates)

    def save_replay(self, folder: Path) -> None:
        """Writes this rank's shard of the replay memory."""
        folder.mkdir(parents=True, exist_ok=True)
        self.replay.save(folder / f"rank_{self._learner_index}.pkl")

    def load_replay(self, folder: Path) -> None:
        """Reads this rank's shard; a rank that there was none of starts with an empty one."""
        path = folder / f"rank_{self._learner_index}.pkl"
        if path.exists():
            self.replay.load(path)
