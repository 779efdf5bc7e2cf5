"""What Policy Distillation's config says, and refuses: losses, objectives, experts, idle settings."""

import pytest
import torch

from rllib_distill import PolicyDistillationConfig
from rllib_distill.core.experts import expert_share, highest_share, last_share
from rllib_distill.core.schedules import Elapsed
from rllib_distill.experts import Expert
from rllib_distill.losses import DistillationLoss
from tests.configs import ON_POLICY
from tests.env_runner.counting_env import NAMED_TASKS, save_random_experts

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
REPLAY = {  # with another value than by default
    "replay_capacity": 500,
    "training_intensity": 1.0,
    "num_steps_sampled_before_learning_starts": 50,
    "one_task_per_minibatch": False,
    "sequence_length": 4,
    "burn_in_len": 2,
    "n_step": 3,
    "double_q": False,
    "huber_delta": None,
    "target_network_update_freq": 10,
    "train_batch_size_per_learner": 32,
}
TRAJECTORIES = {
    "vf_loss_coeff": 1.0,
    "entropy_coeff": 0.01,
    "vtrace_clip_rho_threshold": 2.0,
    "vtrace_clip_pg_rho_threshold": 2.0,
}


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
    with refused("mse", "'short'", "logits"):
        distillation(loss="mse").experts(experts).validate()
    distillation(loss="nll").experts(experts).validate()
    unknown = Expert(
        bank["long"].info.model_copy(update={"expected_return": None}), bank["long"].network.state_dict()
    )
    unknown.save(tmp_path / "unknown.safetensors")
    with refused("qdagger", "'long'", "expected_return"):
        distillation(rl_coeff=1.0, imitation_coeff="qdagger").experts(
            {**paths, "long": tmp_path / "unknown.safetensors"}, behaviour="student"
        ).validate()


def test_that_an_expert_that_cannot_act_in_its_task_is_refused_as_the_actor(
    distillation, refused, paths, tmp_path
):
    fewer = {"long": {**NAMED_TASKS["long"], "env_config": {"size": 5, "meanings": "nud"}}}
    with refused("'long'", "3 actions", "4 actions"):
        distillation().experts(
            {**paths, **save_random_experts(tmp_path, fewer)}, behaviour="expert"
        ).validate()


def test_that_a_task_may_not_be_called_as_the_student_is(online, refused):
    with refused("'student'", "call the task otherwise"):
        online().multi_task(tasks={"student": NAMED_TASKS["short"]}).validate()


@pytest.mark.parametrize("order", [("experts", "tasks"), ("tasks", "experts")])
def test_that_online_may_come_before_or_after_the_tasks(order):
    values = {"experts": "online", "tasks": NAMED_TASKS}
    config = PolicyDistillationConfig().update_from_dict({key: values[key] for key in order})
    assert list(config.policies) == ["student", "short", "long"]
    assert config.policy_mapping_fn("long", None) == "student"
    assert config.tasks_of_module("long") == ("long",)
    assert config.tasks_of_module("student") == ("short", "long")


def test_that_settings_under_which_nothing_would_be_learned_are_refused(distillation, online, refused):
    with refused("imitation_coeff", "rl_coeff", "both 0"):
        distillation(imitation_coeff=0).validate()
    with refused("qdagger", "behaviour", "[[0, 1.0], [100000, 0.0]]"):
        distillation(rl_coeff=1.0, imitation_coeff="qdagger").validate()
    with refused("online_expert", "'current'"):
        online().experts(behaviour="student").validate()
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
    ],
)
def test_that_trajectories_want_the_students_own_policy(on_policy, refused, objective, settings, says):
    config = on_policy(objective)
    config.validate()
    with refused(*says):
        config.copy().update_from_dict(settings).validate()


def test_that_the_student_does_not_act_by_default_as_trajectories_want(distillation, refused):
    with refused("behaviour is 'expert'", "must be 'student'"):
        distillation(objective="expected_entropy_regularised", epsilon=0.0).validate()


def test_that_kickstarting_wants_rewards(on_policy, refused):
    with refused("rl_coeff is 0", "kickstarting"):
        on_policy("kickstarting", rl_coeff=0).validate()


@pytest.mark.parametrize("objective", ON_POLICY)
@pytest.mark.parametrize("key", REPLAY)
def test_that_trajectories_refuse_what_is_for_replay(on_policy, refused, objective, key):
    with refused(f"{key} is {REPLAY[key]!r}", "remove it"):
        on_policy(objective).update_from_dict({key: REPLAY[key]}).validate()


@pytest.mark.parametrize("key", TRAJECTORIES)
def test_that_replay_refuses_what_is_for_trajectories(distillation, on_policy, refused, key):
    on_policy(**{key: TRAJECTORIES[key]}).validate()
    with refused(f"{key} is {TRAJECTORIES[key]!r}", "objectives on trajectories", "remove it"):
        distillation().update_from_dict({key: TRAJECTORIES[key]}).validate()


@pytest.mark.parametrize("key", ["n_step", "double_q", "huber_delta", "target_network_update_freq"])
def test_that_imitation_alone_refuses_what_is_for_q_learning(distillation, online, refused, key):
    for config in (distillation(rl_coeff=1.0), online()):
        config.update_from_dict({key: REPLAY[key]}).validate()
    with refused(f"{key} is {REPLAY[key]!r}", "Q-learning", "remove it"):
        distillation().update_from_dict({key: REPLAY[key]}).validate()
    with refused("n_step", ">= 1"):
        distillation(rl_coeff=1.0, n_step=0).validate()


def test_that_experts_from_files_refuse_what_is_for_experts_that_learn(distillation, refused):
    with refused("online_expert is 'current'", "experts: online", "remove it"):
        distillation().experts(online_expert="current").validate()


# -- recurrent students --------------------------------------------------------------------------------------


def test_that_no_recurrent_network_learns_q_values(distillation, online, refused):
    recurrent = {"network": LSTM, "train_batch_size_per_learner": 16}
    distillation(**recurrent).validate()
    with refused("lstm", "Q-learning", "stack frames"):
        distillation(**recurrent, rl_coeff=1.0).validate()
    with refused("lstm", "Q-learning", "stack frames"):
        online(**recurrent).validate()


@pytest.mark.parametrize("objective", ON_POLICY)
def test_that_a_student_on_trajectories_may_be_recurrent_and_learn_from_rewards(on_policy, objective):
    on_policy(objective, network=LSTM, rl_coeff=1.0).validate()


# -- losses of one's own -------------------------------------------------------------------------------------


def absolute_loss(expert_q, student, *, legal_actions=None):
    """A loss of one's own."""
    distances = (student - expert_q).abs()
    return (distances if legal_actions is None else distances * legal_actions).sum(-1)


def tempered_loss(expert_q, student, *, tau, legal_actions=None):
    return absolute_loss(expert_q / (tau if isinstance(tau, float) else tau[..., None]), student)


of_q_values = DistillationLoss(absolute_loss, of_q_values=True)
not_a_loss = 3


@pytest.mark.parametrize(
    ("name", "function", "takes_tau", "compares_q_values"),
    [
        ("absolute_loss", absolute_loss, False, False),
        ("tempered_loss", tempered_loss, True, False),
        ("of_q_values", absolute_loss, False, True),
    ],
)
def test_that_a_loss_may_be_ones_own(distillation, name, function, takes_tau, compares_q_values):
    config = distillation(loss=f"{__name__}:{name}")
    config.validate()
    loss = config.distillation_loss
    expert, student = torch.tensor([[1.0, 2.0]]), torch.tensor([[0.0, 4.0]])
    assert (loss.takes_tau, loss.of_q_values) == (takes_tau, compares_q_values)
    options = {"tau": 1.0} if takes_tau else {}
    torch.testing.assert_close(loss.function(expert, student, **options), torch.tensor([3.0]))
    assert loss.function is function


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
    with refused("loss", says):
        distillation(loss=loss).validate()


def test_that_a_loss_of_q_values_wants_experts_that_have_some(distillation, refused, bank, paths, tmp_path):
    info = bank["short"].info.model_copy(update={"kind": "logits"})
    Expert(info, bank["short"].network.state_dict()).save(tmp_path / "logits.safetensors")
    config = distillation(loss=f"{__name__}:of_q_values")
    with refused("of_q_values", "'short'", "logits"):
        config.experts({**paths, "short": tmp_path / "logits.safetensors"}).validate()
