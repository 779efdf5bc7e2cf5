"""What all our algorithms are configured with: tasks, networks, optimisation, exploration."""

from collections.abc import Mapping
from inspect import signature
from typing import Any, Self

from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from ray.rllib.utils.from_config import NotProvided
from ray.tune.result import STDERR_FILE, STDOUT_FILE, TRIAL_INFO
from ray.util import log_once

from rllib_distill.algorithms.common.multi_task_checks import check_networks, check_sizes, check_values
from rllib_distill.algorithms.common.optimizers import check_gradient_steps, check_module_overrides
from rllib_distill.algorithms.common.schedules import Elapsed, Schedule, check_stop, is_by_progress, value_at
from rllib_distill.algorithms.common.settings import check_number
from rllib_distill.algorithms.common.task_modules import TaskModules
from rllib_distill.errors import DistillError, nearest
from rllib_distill.sampling import MultiTaskEnvRunner
from rllib_distill.sampling.runner_actors import RunnerActors

_BATCH_SIZE = "train_batch_size_per_learner"  # a property of RLlib's configs, so not among their `vars`
_SPECIAL_KEYS = frozenset(
    ("multiagent", _BATCH_SIZE, TRIAL_INFO, STDOUT_FILE, STDERR_FILE)
)  # RLlib's and Tune's
_OWN_SETTINGS = ("lr", "optimizer", "grad_clip", "grad_clip_by")  # of each module's steps


class MultiTaskConfig(TaskModules):
    """Base of our configs. Tasks are RLlib agents: agent id = task name, policy mapping = task -> module.

    Every key of a dict or YAML file is checked: an unknown one is an error that names the nearest known.
    """

    loss_settings: tuple[str, ...] = ()
    """Those that modules may have of their own, beside those of their gradient steps."""

    per_task_settings: tuple[str, ...] = ()
    """Those that take a value for each task, as which RLlib's overrides per module are no substitute."""

    def __init__(self, algo_class: type | None = None):
        """Sets the defaults."""
        super().__init__(algo_class=algo_class)
        # Optimisation.
        self.optimizer = {"type": "adam"}
        self.lr = 0.00025
        self.gamma = 0.99
        self.stop: Mapping[str, float] | None = None
        # Acting.
        self.epsilon: Schedule = 0.1
        self.evaluation_epsilon = 0.01
        # RLlib's own, with values that fit the columnar data path.
        self.rollout_fragment_length = 32  # time steps of every environment per sample()
        self.env_runner_cls = MultiTaskEnvRunner
        self.torch_compile_worker_dynamo_backend = "inductor"  # RLlib's "onnxrt" is another package
        self.disable_env_checking = True  # ours are vector envs of single tasks
        self.max_requests_in_flight_per_env_runner = 2  # a runner never waits for the driver
        self.evaluation_duration = 100  # episodes of every task
        self.create_local_env_runner = True
        self.min_time_s_per_iteration = 1

    def training(
        self,
        *,
        network: Mapping[str, Any] | None = NotProvided,
        mixed_precision: bool = NotProvided,
        epsilon: Schedule = NotProvided,
        stop: Mapping[str, float] | None = NotProvided,
        **kwargs: Any,
    ) -> Self:
        """Sets the training related configuration.

        A setting that is a schedule takes a number; `[[env steps of all tasks together, value], ...]`; or
        `[["0%", value], ["100%", value]]`, by the share of the run that is done. Linear in between.

        Args:
            network: `{"type": "nature_cnn" | "minatar_cnn" | "mlp" | ..., **options}`, see
                `rllib_distill.networks`; None (default): by the observations, nature_cnn for images of at
                least 36 pixels, minatar_cnn for smaller ones, else mlp.
            mixed_precision: Whether networks compute in bfloat16 where they learn and act (default False);
                weights, outputs and losses stay float32. Faster on a GPU and on processors with AMX.
            epsilon: Probability of a random action while training, a schedule (default 0.1).
            stop: When the whole run ends, in Tune's form: result key -> value, e.g.
                `{"num_env_steps_sampled_lifetime": 1_000_000}`; of several, the first to be met ends it and
                the furthest tells which share is done. Results are `done` then, which ends a trial of Tune.
                `rllib train` takes it from the experiment. None (default): nobody knows.
            kwargs: RLlib's own: `lr` (a schedule), `gamma`, `grad_clip`, `optimizer`
                (`{"type": "adam" | "rmsprop" | "sgd", **options of torch's}`).

        Returns:
            This config.

        Raises:
            DistillError: There is no such setting.
        """
        for name in kwargs:
            if name not in signature(AlgorithmConfig.training).parameters:
                raise self._unknown_key(name)
        super().training(**kwargs)
        return self._set_given(
            {
                "network": network,
                "mixed_precision": mixed_precision,
                "epsilon": epsilon,
                "stop": stop,
            }
        )

    def evaluation(self, *, evaluation_epsilon: float = NotProvided, **kwargs: Any) -> Self:
        """Sets the evaluation configuration.

        Args:
            evaluation_epsilon: Probability of a random action in evaluation (default 0.01; 0 of Distral
                and SoftQDistral, whose policies are stochastic).
            kwargs: RLlib's own; `evaluation_duration` counts episodes of every task, or with the unit
                `timesteps` steps of all tasks together: the papers' epochs of 125,000 steps per game. Of
                these, episodes count that end in time; play them in one environment per task
                (`evaluation_config={"num_envs_per_task": 1}`), as long episodes are cut off otherwise.

        Returns:
            This config.
        """
        super().evaluation(**kwargs)
        return self._set_given({"evaluation_epsilon": evaluation_epsilon})

    # -- what others ask -----------------------------------------------------------------------------------

    def checkpoint_state(self) -> dict[str, Any]:
        """What a checkpoint keeps of the config."""
        state: dict[str, Any] = self.get_state()
        return state

    def epsilon_at(self, env_steps: int, progress: float) -> float:
        """Exploration after so many env steps of all tasks together and such a share of the run."""
        return value_at(self.epsilon, Elapsed(env_steps, progress))

    def expert_share_at(self, env_steps: int, progress: float) -> float:
        """Share of the training episodes that experts act, as `epsilon_at`."""
        return 0.0

    @property
    def schedules(self) -> dict[str, Any]:
        """Name -> value of every setting that may be a schedule."""
        of_modules = {
            f"algorithm_config_overrides_per_module of module {module_id!r}: lr": settings["lr"]
            for module_id, settings in self.algorithm_config_overrides_per_module.items()
            if "lr" in settings
        }
        return {"lr": self.lr, **of_modules, "epsilon": self.epsilon}

    @property
    def by_progress(self) -> list[str]:
        """Which of them change by shares of the run."""
        return [name for name, schedule in self.schedules.items() if is_by_progress(schedule)]

    @property
    def runner_actors_class(self) -> type:
        """Who may act for an env runner."""
        return RunnerActors

    @property
    def evaluates_distilled(self) -> bool:
        """Whether evaluation plays a distilled policy, too, on every task."""
        return False

    @property
    def samples_actions(self) -> bool:
        """Whether training actions are drawn from the policy's softmax, or greedy."""
        return False

    def imitation_reward_tau(self, task: str) -> float | None:
        """Temperature of the expert policy whose log-likelihoods are the rewards; None: the task's own."""
        return None

    @property
    def label_columns(self) -> tuple[str, ...]:
        """Which of the experts' outputs and features go into fragments."""
        return ()

    def load_experts(self) -> Any:
        """The experts that label and may act, or None."""
        return None

    # -- checks --------------------------------------------------------------------------------------------

    def known_keys(self) -> set[str]:
        """Keys that a dict or a file may have, and that a message about an unknown one may name."""
        return {_BATCH_SIZE, *(key for key in vars(self) if not key.startswith("_"))}

    def update_from_dict(self, config_dict: Mapping[str, Any]) -> Self:
        """As RLlib's, but an unknown key is an error, and `tasks` sets up the modules too."""
        for key in config_dict:
            if self._translate_special_keys(key, warn_deprecated=False) not in {*vars(self), *_SPECIAL_KEYS}:
                raise self._unknown_key(key)
        if config_dict.get("enable_rl_module_and_learner") is False:
            raise DistillError(
                "enable_rl_module_and_learner is False; this package runs on RLlib's new API stack: "
                "remove the key."
            )
        super().update_from_dict(dict(config_dict))
        if "tasks" in config_dict:
            self.multi_task(tasks=config_dict["tasks"])
        elif self.tasks:
            self._map_tasks()
        return self

    def validate(self) -> None:
        """Checks every value before anything starts.

        Raises:
            DistillError: What is wrong, the value, what is allowed.
        """
        _ = self.task_set  # raises what is wrong with the tasks
        check_values(self)
        check_networks(self)
        check_sizes(self)
        self._check_unused()
        name = "max_requests_in_flight_per_env_runner"
        check_number(name, getattr(self, name), least=1, integer=True)
        steps = {name: getattr(self, name) for name in _OWN_SETTINGS}
        check_gradient_steps(**steps)
        check_module_overrides(
            self.algorithm_config_overrides_per_module,
            self.policies,
            steps,
            of_losses=self.loss_settings,
            per_task=self.per_task_settings,
        )
        check_stop(self.stop, self.by_progress)
        log_once(f"{self.algo_class.__name__}_on_new_api_stack")  # RLlib's warning that this is the new stack
        super().validate()

    def _validate_new_api_stack_settings(self) -> None:
        """RLlib's, which knows learning rates by env steps only; ours is checked already."""
        lr, self.lr = self.lr, value_at(self.lr, Elapsed())
        try:
            super()._validate_new_api_stack_settings()
        finally:
            self.lr = lr

    def _unknown_key(self, key: str) -> DistillError:
        return DistillError(
            f"Unknown key {key!r} in the config of {type(self).__name__.removesuffix('Config')}. "
            f"{nearest(key, self.known_keys(), list_known=False)}"
        )

    def _check_unused(self) -> None:
        """RLlib's ways of saying what has a setting of ours."""
        if self._model_config:
            raise DistillError(
                f"model_config is {self._model_config!r}; our networks are described by network: leave "
                "model_config out, and set e.g. network: {type: mlp, hiddens: [64, 64]}."
            )
        if self.num_envs_per_env_runner != 1:
            raise DistillError(
                f"num_envs_per_env_runner is {self.num_envs_per_env_runner!r}; env runners have "
                f"num_envs_per_task ({self.num_envs_per_task}) environments of each task: set that instead."
            )

    def _set_given(self, given: Mapping[str, Any]) -> Self:
        for name, value in given.items():
            if value is not NotProvided:
                setattr(self, name, value)
        return self
