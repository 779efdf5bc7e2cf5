"""The training step that our algorithms share: sample, update, hand out weights."""

import math
import shutil
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.core import COMPONENT_LEARNER, COMPONENT_RL_MODULE
from ray.rllib.utils.metrics import (
    ENV_RUNNER_RESULTS,
    ENV_RUNNER_SAMPLING_TIMER,
    LEARNER_RESULTS,
    LEARNER_UPDATE_TIMER,
    NUM_ENV_STEPS_SAMPLED,
    NUM_ENV_STEPS_SAMPLED_LIFETIME,
    SYNCH_WORKER_WEIGHTS_TIMER,
    TIMERS,
)
from ray.tune.result import DONE
from ray.tune.utils import flatten_dict
from typing_extensions import override

from rllib_distill.core.config import MultiTaskConfig
from rllib_distill.core.learner import PROGRESS, FragmentData, rank_of
from rllib_distill.core.schedules import ENV_STEPS, ITERATIONS, SECONDS, Elapsed, share_done
from rllib_distill.errors import DistillError

REPLAY_FOLDER = "replay"
MODULES_FOLDER = Path("learner_group", "learner", "rl_module")
"""Where a checkpoint has a folder per module."""

_OWED = "minibatches_owed"
_COUNTS, _SECONDS = "counts", "time_total_s"


class MultiTaskAlgorithm(Algorithm):
    """Base of our algorithms.

    With remote env runners, sampling overlaps learning: a runner has its next request before the learners
    update. The driver moves references and metrics only.
    """

    config: MultiTaskConfig

    @override
    def setup(self, config: Any) -> None:
        self._minibatches_owed = 0.0
        self._learning_started = False
        self._samples_sharded = 0
        self._counts: dict[str, float] = {}
        self._train_began: float | None = None  # None between iterations
        super().setup(config)

    def get_ctor_args_and_kwargs(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """What a checkpoint rebuilds the algorithm from."""
        return (self.config.checkpoint_state(),), {}

    # -- training ------------------------------------------------------------------------------------------

    def train(self) -> dict[str, Any]:
        """RLlib's; the result is `done` where the config's `stop` says so, which ends a trial of Tune."""
        self._train_began = time.monotonic()
        try:
            result: dict[str, Any] = super().train()
        finally:
            self._train_began = None
        stop = self.config.stop or {}
        reached = {key: value for key, value in flatten_dict(result).items() if key in stop}
        self._counts.update({key: float(value) for key, value in reached.items() if math.isfinite(value)})
        if any(value >= stop[key] for key, value in reached.items()):
            result[DONE] = True
        return result

    def elapsed(self) -> Elapsed:
        """How far training is at the moment."""
        return Elapsed(self._env_steps_lifetime(), share_done(self.config.stop, self._count) or 0.0)

    def _count(self, key: str) -> float:
        """What a counter of results is at, before the iteration's result is there."""
        if key == ITERATIONS:
            return float(self.iteration)
        if key == "iterations_since_restore":
            return float(self._iterations_since_restore)
        if key in (SECONDS, "time_since_restore"):
            until_now = float(self._time_total if key == SECONDS else self._time_since_restore)
            began = self._train_began
            return until_now + (0.0 if began is None else time.monotonic() - began)
        path = (ENV_RUNNER_RESULTS, key) if key == ENV_STEPS else tuple(key.split("/"))
        count = self.metrics.peek(path, default=math.nan)
        if isinstance(count, Mapping):
            raise DistillError(
                f"stop: {key} has a value of each of {', '.join(map(repr, count))}; say which, e.g. "
                f"{key}/{next(iter(count))}."
            )
        if math.isfinite(count):  # between two reports of a key, RLlib's metrics may have none
            self._counts[key] = float(count)
        return self._counts.get(key, 0.0)

    def training_step(self) -> None:
        """One round of sampling and as many gradient steps as it pays for."""
        with self.metrics.log_time((TIMERS, ENV_RUNNER_SAMPLING_TIMER)):
            samples, env_steps = self._sample_remotely() if self._samples_remotely else self._sample_locally()
        if not samples:
            return  # every runner is late or dead; RLlib restores the dead ones before the next step
        num_minibatches, elapsed = self.num_minibatches(samples, env_steps), self.elapsed()
        with self.metrics.log_time((TIMERS, LEARNER_UPDATE_TIMER)):
            results = self.learner_group.update(
                training_data=FragmentData(samples),
                timesteps={NUM_ENV_STEPS_SAMPLED_LIFETIME: elapsed.env_steps, PROGRESS: elapsed.progress},
                num_minibatches=num_minibatches,
                **self.learner_inputs(),
            )
        self.metrics.aggregate(results, key=LEARNER_RESULTS)
        if num_minibatches:
            with self.metrics.log_time((TIMERS, SYNCH_WORKER_WEIGHTS_TIMER)):
                self.env_runner_group.sync_weights(
                    from_worker_or_learner_group=self.learner_group, inference_only=True
                )

    def learner_inputs(self) -> dict[str, Any]:
        """What else the learners' `update` is told."""
        return {}

    @property
    def _samples_remotely(self) -> bool:
        return self.env_runner_group.num_remote_env_runners() > 0

    def _sample_locally(self) -> tuple[list[tuple[int, Any]], int]:
        runner = self.env_runner_group.local_env_runner
        runner.progress = self.elapsed().progress
        sample = runner.sample()
        metrics = runner.get_metrics()
        self.metrics.aggregate([metrics], key=ENV_RUNNER_RESULTS)
        return [(self._rank_of(0), sample)], sum(fragment.env_steps() for fragment in sample)

    def _sample_remotely(self) -> tuple[list[tuple[int, Any]], int]:
        """What the runners have ready, waiting for `samples_awaited`; each gets its next requests at once."""
        group = self.env_runner_group
        deadline = time.monotonic() + self.config.sample_timeout_s
        ready: list[tuple[int, Any]] = []
        progress = self.elapsed().progress  # once, not with every look at what is ready
        self._request_samples(progress)
        while len(ready) < self.samples_awaited and time.monotonic() < deadline:
            if not group.num_healthy_remote_env_runners():
                break
            ready += group.fetch_ready_async_reqs(tags="sample", timeout_seconds=0.005)
            self._request_samples(progress)
        metrics = [metrics for _, (_, _, metrics) in ready]
        env_steps = sum(int(m[NUM_ENV_STEPS_SAMPLED].peek()) for m in metrics)
        if metrics:
            self.metrics.aggregate(metrics, key=ENV_RUNNER_RESULTS)
        return [(self._rank_of(runner), sample) for runner, (sample, _, _) in ready], env_steps

    @property
    def samples_awaited(self) -> int:
        """How many samples an update waits for; it takes all that are ready.

        On trajectories as many as there are ranks, so that each has work; one without only follows the
        others.
        """
        return max(1, self.config.num_learners) if self.config.learns_on_policy else 1

    def _request_samples(self, progress: float) -> None:
        """Fills every runner's queue: a call makes one request each, none where the queue is full."""
        for _ in range(self.config.max_requests_in_flight_per_env_runner):
            self.env_runner_group.foreach_env_runner_async(
                "sample_get_state_and_metrics", tag="sample", kwargs={"progress": progress}
            )

    def _rank_of(self, runner: int) -> int:
        self._samples_sharded += 1
        num_learners = max(1, self.config.num_learners)
        return rank_of(runner, self._samples_sharded, num_learners, self.config.num_env_runners)

    def num_minibatches(self, samples: Sequence[tuple[int, Any]], new_env_steps: int) -> int:
        """How many gradient steps the next update makes: one on trajectories, which are one minibatch.

        Args:
            samples: `(rank, sample)` of the learners that get them.
            new_env_steps: In them all; every step pays for `training_intensity` rows.
        """
        if self.config.learns_on_policy:
            return 1
        if not self._learning_started:
            fewest = min(self._from_learners(_fewest_transitions))
            if fewest < self._transitions_before_learning:
                return 0
            self._learning_started = True
        batch_size = self.config.train_batch_size_per_learner * max(1, self.config.num_learners)
        self._minibatches_owed += new_env_steps * self.config.training_intensity / batch_size
        num_minibatches = int(self._minibatches_owed)
        self._minibatches_owed -= num_minibatches
        return num_minibatches

    @property
    def _transitions_before_learning(self) -> int:
        return -(-self.config.num_steps_sampled_before_learning_starts // max(1, self.config.num_learners))

    def _env_steps_lifetime(self) -> int:
        return int(self.metrics.peek((ENV_RUNNER_RESULTS, NUM_ENV_STEPS_SAMPLED_LIFETIME), default=0))

    def _from_learners(self, function: Any) -> list[Any]:
        results = list(self.learner_group.foreach_learner(function))
        for result in results:
            if not result.ok:
                raise result.get()  # RLlib hands the error over as if it were a result
        return [result.get() for result in results]

    def module_weights(self) -> dict[str, dict[str, Any]]:
        """Module id -> name -> array: what acts, without target networks and the like."""
        state = self.learner_group.get_state(
            components=f"{COMPONENT_LEARNER}/{COMPONENT_RL_MODULE}", inference_only=True
        )
        weights: dict[str, dict[str, Any]] = state[COMPONENT_LEARNER][COMPONENT_RL_MODULE]
        return weights

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """RLlib's.

        Raises:
            DistillError: It is to play timesteps in the training environments: those that are being played
                there are training's, and whoever acts in training would act.
        """
        if self.config.evaluation_duration_unit == "timesteps" and self.eval_env_runner_group is None:
            raise DistillError(
                "evaluation_duration_unit is 'timesteps', which needs environments of its own: set "
                "evaluation_interval, or evaluate episodes."
            )
        results: dict[str, Any] = super().evaluate(*args, **kwargs)
        return results

    # -- checkpoints ---------------------------------------------------------------------------------------

    def get_state(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """RLlib's state, how many minibatches the steps so far still pay for, and what `stop` counts.

        Of these RLlib would forget the seconds.
        """
        own = {_OWED: self._minibatches_owed, _COUNTS: dict(self._counts), _SECONDS: self._time_total}
        return {**super().get_state(*args, **kwargs), **own}

    def set_state(self, state: dict[str, Any]) -> None:
        """Restores what `get_state` gave."""
        super().set_state(state)
        self._minibatches_owed = state.get(_OWED, 0.0)
        self._counts = dict(state.get(_COUNTS, {}))
        self._time_total: float = state.get(_SECONDS, 0.0)

    def save_to_path(self, path: Any = None, **kwargs: Any) -> str:
        """RLlib's checkpoint, and every learner's replay buffer in the folder `replay`."""
        saved: str = super().save_to_path(_local(path), **kwargs)
        folder = Path(saved) / REPLAY_FOLDER
        shutil.rmtree(folder, ignore_errors=True)  # shards of an older save of more learners
        self._from_learners(partial(_save_store, folder=folder))
        return saved

    def restore_from_path(self, path: Any, *args: Any, **kwargs: Any) -> None:
        """RLlib's restore; the replay buffers come back too, so training goes on and does not refill."""
        path = _local(path)
        self._check_modules(path)
        super().restore_from_path(path, *args, **kwargs)
        folder = Path(path) / REPLAY_FOLDER
        if folder.is_dir() and not kwargs.get("component"):
            self._from_learners(partial(_load_store, folder=folder))

    def _check_modules(self, path: Any) -> None:
        """RLlib leaves a module as it is that a checkpoint lacks."""
        folder = Path(path) / MODULES_FOLDER
        missing = [module_id for module_id in self.config.policies if not (folder / module_id).is_dir()]
        if folder.is_dir() and missing:
            raise DistillError(
                f"The checkpoint {path} has no module {', '.join(map(repr, missing))}, as this config needs: "
                "set tasks, shared and experts as they were when it was made, or start without it."
            )

    @classmethod
    @override
    def from_checkpoint(cls, path: Any, *args: Any, **kwargs: Any) -> Any:
        return super().from_checkpoint(_local(path), *args, **kwargs)


def _local(path: Any) -> Any:
    """An absolute path, as RLlib needs; other learners' shards are beside it, so it must be a folder here."""
    if not isinstance(path, str | Path):
        return path
    text = str(path).removeprefix("file://")
    if "://" in text:
        raise DistillError(
            f"The checkpoint path is {text!r}; it must be a local or mounted folder, where every learner can "
            "write its replay buffer. Tune's storage_path may be remote: it uploads whole checkpoints."
        )
    return str(Path(text).resolve())


def _fewest_transitions(learner: Any) -> int:
    return int(learner.num_transitions)


def _save_store(learner: Any, folder: Path) -> None:
    learner.save_store(folder)


def _load_store(learner: Any, folder: Path) -> None:
    learner.load_store(folder)
