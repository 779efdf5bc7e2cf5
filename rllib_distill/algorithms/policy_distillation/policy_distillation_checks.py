"""What must hold of a config of Policy Distillation; each check raises DistillError."""

from typing import Any

from rllib_distill.algorithms.common.behaviour import check_behaviour, highest_share, last_share
from rllib_distill.algorithms.common.expert_config import STUDENT
from rllib_distill.algorithms.common.schedules import check_schedule
from rllib_distill.algorithms.common.settings import check_choice, check_number
from rllib_distill.errors import DistillError
from rllib_distill.experts import ExpertBank


def check_policy_distillation(config: Any) -> None:
    """Values, and what excludes what."""
    check_behaviour(config.behaviour)
    check_choice("loss", config.loss, ("kl", "nll", "mse"))
    check_choice("objective", config.objective, ("distillation", "expected_entropy_regularised"))
    check_choice("online_expert", config.online_expert, ("current", "best"))
    check_number("rl_coeff", config.rl_coeff, least=0)
    if isinstance(config.imitation_coeff, str):
        check_choice("imitation_coeff", config.imitation_coeff, ("qdagger",))
        if not config.rl_coeff:
            raise DistillError(
                "imitation_coeff is 'qdagger', which fades, and rl_coeff is 0: nothing would be learned in "
                "the end. Set rl_coeff, e.g. to 1.0, or give imitation_coeff a number."
            )
        if last_share(config.behaviour) == 1:
            raise DistillError(
                "imitation_coeff is 'qdagger', which fades with the student's return, but by behaviour only "
                "experts act: let the student, e.g. behaviour: [[0, 1.0], [100000, 0.0]]."
            )
    else:
        check_schedule("imitation_coeff", config.imitation_coeff, least=0)
        if config.imitation_coeff == 0 and config.rl_coeff == 0:
            raise DistillError("imitation_coeff and rl_coeff are both 0: nothing would be learned.")
    if isinstance(config.expert_paths, str) and not config.experts_learn:
        raise DistillError(
            f"experts is {config.expert_paths!r}; it must map each task to the path of its .safetensors "
            "file, or be 'online'."
        )
    if config.experts_learn:
        _check_online(config)
    if config.is_on_policy:
        _check_on_policy(config)


def _check_online(config: Any) -> None:
    if STUDENT in config.expert_modules:
        raise DistillError(
            f"A task is called {STUDENT!r}, as the student's module is; experts that learn have their task's "
            "name: call the task otherwise."
        )
    if config.online_expert == "best" and highest_share(config.behaviour) == 0:
        raise DistillError(
            "online_expert is 'best', which is known by the experts' own play, but by behaviour only the "
            "student acts: use online_expert 'current', or let the experts act."
        )


def _check_on_policy(config: Any) -> None:
    wrong = {
        "behaviour": (highest_share(config.behaviour) > 0, config.behaviour, "'student'"),
        "epsilon": (config.epsilon != 0, config.epsilon, "0"),
        "loss": (config.loss != "kl", config.loss, "'kl'"),
        "rl_coeff": (config.rl_coeff != 0, config.rl_coeff, "0"),
        "experts": (config.experts_learn, "online", "files"),
    }
    for name, (is_wrong, value, allowed) in wrong.items():
        if is_wrong:
            raise DistillError(
                f"{name} is {value!r}; with the objective expected_entropy_regularised it must be {allowed}: "
                "the objective is an expectation over the student's own policy, given experts that stay."
            )


def check_experts_fit(config: Any, experts: ExpertBank) -> None:
    """The experts know what the settings ask of them."""
    for task, expert in experts.items():
        if config.loss == "mse" and config.objective == "distillation" and expert.info.kind != "q_values":
            raise DistillError(
                f"loss is 'mse', but the expert of task {task!r} has {expert.info.kind}, which are no "
                "Q-values to be regressed to: use loss 'kl' or 'nll'."
            )
        expected = expert.info.expected_return
        if config.imitation_coeff == "qdagger" and (expected is None or expected["mean"] <= 0):
            raise DistillError(
                f"imitation_coeff is 'qdagger', but the expected_return of the expert of task {task!r} is "
                f"{None if expected is None else expected['mean']}; it must be known and above 0 to compare "
                "with: give imitation_coeff a schedule such as [[0, 1.0], [1000000, 0.0]]."
            )
