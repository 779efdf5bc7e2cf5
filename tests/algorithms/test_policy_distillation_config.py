"""What Policy Distillation's config says, and refuses: losses, objectives, experts, idle settings."""

import pytest

from rllib_distill import PolicyDistillationConfig
from rllib_distill.core.experts import expert_share, highest_share, last_share
from rllib_distill.core.schedules import Elapsed
from rllib_distill.experts import Expert
from rllib_distill.losses import DistillationLoss
from tests.configs import ON_POLICY
from tests.env_runner.counting_env import NAMED_TASKS

LSTM = {"type": "mlp", "hiddens": [8], "lstm": 4}
WRONG = [
    ("tau", 0, "> 0"),
    ("loss", "l2", "'mse'"),
    ("objective", "rl", "'distillation'"),
    ("rl_coeff", -1, ">= 0"),
    ("imitation_coeff", "dagger", "'qdagger'"),
    ("imitation_coeff", "qdagger", "rl_coeff"),
    ("imitation_coeff", [[0, -1.0]], ">= 0"),
    ("imitation_coeff", [["0%", 1.0], ["100%", 0.0]], "imitation_coeff changes by shares"),
    ("online_expert", "worst", "'best'"),
    ("behaviour", [[0, 1.2], [10, 0.0]], "<= 1"),
    ("experts", "offline", "'online'"),
    ("n_step", 0, "rl_coeff is 0"),
]
Q_LEARNING = {"n_step": 3, "double_q": False, "huber_delta": None, "target_network_update_freq": 10}


@pytest.mark.parametrize(("key", "value", "allowed"), WRONG)
def test_that_a_bad_value_is_refused(distillation, refused, key, value, allowed):
    with refused(key, allowed):
        distillation().update_from_dict({key: value}).validate()


# -- experts -------------------------------------------------------------------------------------------------


def test_that_experts_know_what_is_asked_of_them(distillation, refused, bank, paths, tmp_path):
    logits = Expert(
        bank["short"].info.model_copy(update={"kind": "logits"}), bank["short"].network.state_dict()
    )
    logits.save(tmp_path / "logits.safetensors")
    experts = {**paths, "short": tmp_path / "logits.safetensors"}
    for loss in ("mse", f"{__name__}:of_q_values"):
        with refused(loss.split(":")[-1], "'short'", "logits"):
            distillation(loss=loss).experts(experts).validate()
    distillation(loss="nll").experts(experts).validate()
    unknown = Expert(
        bank["long"].info.model_copy(update={"expected_return": None}), bank["long"].network.state_dict()
    )
    unknown.save(tmp_path / "unknown.safetensors")
    with refused("qdagger", "'long'", "expected_return"):
        distillation(rl_coeff=1.0, imitation_coeff="qdagger").experts(
            {**paths, "long": tmp_path / "unknown.safetensors"}, behaviour="student"
        ).validate()


@pytest.mark.parametrize("order", [("experts", "tasks"), ("tasks", "experts")])
def test_that_online_may_come_before_or_after_the_tasks(order):
    values = {"experts": "online", "tasks": NAMED_TASKS}
    config = PolicyDistillationConfig().update_from_dict({key: values[key] for key in order})
    assert list(config.policies) == ["student", "short", "long"]
    assert config.policy_mapping_fn("long", None) == "student"
    assert config.tasks_of_module("long") == ("long",)
    assert config.tasks_of_module("student") == ("short", "long")


REFUSED = {
    "imitation of nothing": (
        "distillation",
        {"imitation_coeff": 0},
        ("imitation_coeff", "rl_coeff", "both 0"),
    ),
    "qdagger where experts play all the time": (
        "distillation",
        {"rl_coeff": 1.0, "imitation_coeff": "qdagger"},
        ("qdagger", "behaviour", "[[0, 1.0], [100000, 0.0]]"),
    ),
    "the best of those that never play": (
        "online",
        {"behaviour": "student"},
        ("online_expert", "'current'"),
    ),
    "a task with the student's name": (
        "online",
        {"tasks": {"student": NAMED_TASKS["short"]}},
        ("'student'", "call the task otherwise"),
    ),
    "trajectories of the experts, who play by default": (
        "distillation",
        {"objective": "expected_entropy_regularised", "epsilon": 0.0},
        ("behaviour is 'expert'", "must be 'student'"),
    ),
    "kickstarting without rewards": (
        "on_policy",
        {"objective": "kickstarting", "rl_coeff": 0},
        ("rl_coeff is 0", "kickstarting"),
    ),
    "files that are to learn": (
        "distillation",
        {"online_expert": "current"},
        ("online_expert is 'current'", "experts: online", "remove it"),
    ),
    "memory with Q-learning": (
        "distillation",
        {"network": LSTM, "train_batch_size_per_learner": 16, "rl_coeff": 1.0},
        ("lstm", "Q-learning", "stack frames"),
    ),
    "memory with experts that learn": ("online", {"network": LSTM}, ("lstm", "Q-learning", "stack frames")),
}


@pytest.mark.parametrize("case", REFUSED)
def test_that_settings_that_do_not_go_together_are_refused(case, request, refused):
    make, settings, says = REFUSED[case]
    with refused(*says):
        request.getfixturevalue(make)().update_from_dict(settings).validate()


def test_that_the_current_experts_may_be_those_that_never_play(online):
    online().experts(behaviour="student", online_expert="current").validate()


# -- who acts ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("behaviour", "shares"),
    [
        ("student", {0: 0.0, 10**9: 0.0}),
        ("expert", {0: 1.0, 10**9: 1.0}),
        (0.25, {0: 0.25, 10**9: 0.25}),
        ([[0, 1.0], [100, 0.0]], {0: 1.0, 25: 0.75, 100: 0.0, 500: 0.0}),
        ({"type": "exponential", "half_life": 10}, {0: 1.0, 10: 0.5, 30: 0.125}),
        ({"type": "exponential", "initial": 0.8, "half_life": 10}, {0: 0.8, 20: 0.2}),
    ],
)
def test_that_the_share_of_episodes_that_experts_act_follows_its_schedule(behaviour, shares, actor_mimic):
    for steps, share in shares.items():
        assert expert_share(behaviour, Elapsed(steps)) == pytest.approx(share)
    config = actor_mimic().experts(behaviour=behaviour)
    config.validate()
    assert [config.expert_share_at(steps, 0.0) for steps in shares] == pytest.approx(list(shares.values()))


@pytest.mark.parametrize(
    ("behaviour", "highest", "last"),
    [
        ("student", 0.0, 0.0),
        ("expert", 1.0, 1.0),
        (0.25, 0.25, 0.25),
        ([[0, 0.0], [5_000, 0.0], [5_001, 0.5], [5_002, 0.0]], 0.5, 0.0),
        ([[0, 0.0], [10, 1.0]], 1.0, 1.0),
        ({"type": "exponential", "initial": 0.8}, 0.8, 0.0),
    ],
)
def test_that_a_schedules_highest_and_last_share_are_known(behaviour, highest, last):
    assert (highest_share(behaviour), last_share(behaviour)) == (highest, last)


# -- objectives on trajectories ------------------------------------------------------------------------------


@pytest.mark.parametrize("objective", ON_POLICY)
@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"epsilon": 0.05}, ("epsilon", "0.05", "must be 0")),
        ({"loss": "mse"}, ("loss", "'kl'")),
        ({"behaviour": 0.5}, ("behaviour is 0.5", "must be 'student'")),
        ({"experts": "online", "online_expert": "current"}, ("experts", "'online'", "must be files")),
        ({"entropy_coeff": -1}, ("entropy_coeff", ">= 0")),
        ({"vf_loss_coeff": "1"}, ("vf_loss_coeff", "str")),
        ({"vtrace_clip_rho_threshold": 0}, ("vtrace_clip_rho_threshold", "> 0")),
        ({"vtrace_clip_pg_rho_threshold": 0}, ("vtrace_clip_pg_rho_threshold", "> 0")),
        ({"explore": False}, ("explore is False", "evaluation_config")),
        ({"train_batch_size_per_learner": 32}, ("train_batch_size_per_learner is 32", "remove it")),
    ],
)
def test_that_trajectories_want_the_students_own_policy(on_policy, refused, objective, settings, says):
    config = on_policy(objective)
    config.validate()
    with refused(*says):
        config.copy().update_from_dict(settings).validate()


@pytest.mark.parametrize("key", Q_LEARNING)
def test_that_imitation_alone_refuses_what_is_for_q_learning(distillation, online, refused, key):
    for config in (distillation(rl_coeff=1.0), online()):
        config.update_from_dict({key: Q_LEARNING[key]}).validate()
    with refused(f"{key} is {Q_LEARNING[key]!r}", "Q-learning", "remove it"):
        distillation().update_from_dict({key: Q_LEARNING[key]}).validate()
    with refused("n_step", ">= 1"):
        distillation(rl_coeff=1.0, n_step=0).validate()


@pytest.mark.parametrize("objective", ON_POLICY)
def test_that_a_student_on_trajectories_may_be_recurrent_and_learn_from_rewards(on_policy, objective):
    on_policy(objective, network=LSTM, rl_coeff=1.0).validate()


# -- losses of one's own -------------------------------------------------------------------------------------


def absolute_loss(expert_q, student, *, legal_actions=None):
    """A loss of one's own; `tests/algorithms/test_policy_distillation_learner.py` learns by one."""
    distances = (student - expert_q).abs()
    return (distances if legal_actions is None else distances * legal_actions).sum(-1)


of_q_values = DistillationLoss(absolute_loss, of_q_values=True)
not_a_loss = 3


@pytest.mark.parametrize(
    ("loss", "says"),
    [
        ("no_such_module:my_loss", "'no_such_module'"),
        (f"{__name__}:absolute_los", "'absolute_loss'"),
        (f"{__name__}:not_a_loss", "3"),
        (f"{__name__}:", "my_package"),
    ],
)
def test_that_what_is_no_loss_is_refused(distillation, refused, loss, says):
    distillation(loss=f"{__name__}:absolute_loss").validate()
    with refused("loss", says):
        distillation(loss=loss).validate()
