"""Policy Distillation's learners against plain PyTorch that does the same."""

import copy

import pytest
import torch

from rllib_distill.env_runner import MultiTaskEnvRunner
from rllib_distill.losses import distillation_kl_loss
from tests.algorithms.distral_tasks import TASKS
from tests.algorithms.tabular_envs import Corridor, Income
from tests.configs import ON_POLICY
from tests.env_runner.counting_env import check_fragment, save_random_experts
from tests.learners import (
    STEPS,
    assert_same,
    filled_learner,
    learner_and_sample,
    legal_rows,
    masked,
    optimizers_of,
    rows_of,
)

TAU = 0.5
TAU_OF = {"short": 50.0, "long": 5.0}  # with small ones only the best action would count
LSTM = {"type": "mlp", "hiddens": [8], "lstm": 4}


def outputs(network, batch, observations="observations"):
    """What the heads of a minibatch's tasks say, `(N, 4)`, written out."""
    layer = network.torso.layers[0]
    chunks = torch.relu(rows_of(batch, observations) @ layer.weight.T + layer.bias).chunk(len(batch.tasks))
    rows = [network.head[task](chunk) for task, chunk in zip(batch.tasks, chunks, strict=True)]
    return torch.cat([torch.nn.functional.pad(row, (0, 4 - row.shape[1])) for row in rows])


def imitation(loss, batch, logits):
    legal, expert_q = legal_rows(batch), rows_of(batch, "expert_outputs")
    log_policy = masked(logits, legal).log_softmax(-1)
    if loss == "mse":
        squares = (logits - expert_q).square()
        return (squares if legal is None else squares * legal).sum(-1).mean()
    if loss == "nll":
        return -log_policy[torch.arange(12), masked(expert_q, legal).argmax(-1)].mean()
    tau = torch.tensor([TAU_OF[task] for task in batch.tasks for _ in range(12 // len(batch.tasks))])
    target = masked(expert_q / tau[:, None], legal).softmax(-1)
    return (torch.xlogy(target, target) - target * log_policy).sum(-1).mean()


@pytest.mark.parametrize("one_task", [True, False])
@pytest.mark.parametrize("loss", ["kl", "nll", "mse"])
def test_that_gradient_steps_are_those_of_plain_torch(distillation, loss, one_task):
    settings = {"lr": 0.01, "optimizer": {"type": "adam", "eps": 1e-5}, "one_task_per_minibatch": one_task}
    learner, drawn = filled_learner(distillation(loss=loss, tau=TAU_OF, **settings))
    plain = copy.deepcopy(learner.module["student"])
    optimizer = torch.optim.Adam(plain.parameters(), lr=0.01, eps=1e-5)
    learner.update(**STEPS)
    assert len(drawn) == 3
    for _, batch in drawn:
        assert batch.num_rows == 12
        assert len(batch.tasks) == (1 if one_task else 2)
        optimizer.zero_grad()
        imitation(loss, batch, outputs(plain.network, batch)).backward()
        optimizer.step()
    assert_same(learner.module["student"], plain)


def half_squared_distance(expert_q, student, *, tau, legal_actions=None):
    """A loss of one's own."""
    tau = tau if isinstance(tau, float) else tau[..., None]
    squares = 0.5 * (student - expert_q / tau).square()
    return (squares if legal_actions is None else squares * legal_actions).sum(-1)


def test_that_a_loss_of_ones_own_is_descended(distillation):
    learner, drawn = filled_learner(
        distillation(
            loss=f"{__name__}:half_squared_distance", tau=TAU_OF, lr=0.01, one_task_per_minibatch=False
        )
    )
    plain = copy.deepcopy(learner.module["student"])
    optimizer = torch.optim.Adam(plain.parameters(), lr=0.01)
    learner.update(**STEPS)
    tau = torch.tensor([TAU_OF["short"]] * 6 + [TAU_OF["long"]] * 6)[:, None]
    for _, batch in drawn:
        optimizer.zero_grad()
        squares = (outputs(plain.network, batch) - rows_of(batch, "expert_outputs") / tau).square()
        (0.5 * (squares * legal_rows(batch)).sum(-1)).mean().backward()
        optimizer.step()
    assert_same(learner.module["student"], plain)


@pytest.mark.parametrize("coefficient", [1.0, 0.25])
def test_that_the_mixture_with_rl_tempers_both_sides_and_adds_the_td_loss(distillation, coefficient):
    settings = {"rl_coeff": 0.5, "gamma": 0.9, "lr": 0.01, "one_task_per_minibatch": False, "double_q": False}
    learner, drawn = filled_learner(
        distillation(tau=TAU, huber_delta=None, target_network_update_freq=100, **settings)
    )
    plain = copy.deepcopy(learner.module["student"].network)
    target = copy.deepcopy(plain)
    optimizer = torch.optim.Adam(plain.parameters(), lr=0.01)
    learner.update(**STEPS, imitation_coeffs={"short": coefficient, "long": 1.0})
    weight = torch.tensor([coefficient, 1.0]).repeat_interleave(6)
    for _, batch in drawn:
        legal = legal_rows(batch)
        q = outputs(plain, batch)
        pi = masked(rows_of(batch, "expert_outputs") / TAU, legal).softmax(-1)
        kl = (torch.xlogy(pi, pi) - pi * masked(q / TAU, legal).log_softmax(-1)).sum(-1)
        with torch.no_grad():
            best = masked(outputs(target, batch, "next_observations"), legal).amax(-1)
            y = rows_of(batch, "rewards") + rows_of(batch, "discounts") * best
        td = 0.5 * (q[torch.arange(12), rows_of(batch, "actions")] - y) ** 2
        optimizer.zero_grad()
        ((weight * kl).mean() + 0.5 * td.mean()).backward()
        optimizer.step()
    assert_same(learner.module["student"].network, plain)


# -- experts that learn --------------------------------------------------------------------------------------


@pytest.mark.parametrize("which", ["current", "best"])
def test_that_learning_experts_label_the_students_rows_and_do_not_learn_from_them(online, which):
    config = online(tau=TAU, lr=0.01).experts(online_expert=which)
    learner, _ = filled_learner(config)
    with torch.no_grad():  # so that the best is not the current one
        for task in ("short", "long"):
            for parameter in learner.module[task].network.parameters():
                parameter += 0.3 * torch.randn_like(parameter)
    batch = learner.minibatches["student"].draw()
    labels = torch.zeros(2, 1, 6, 4)
    for i, (task, size) in enumerate((("short", 3), ("long", 5))):
        module = learner.module[task]
        network = module.network if which == "current" else module.best_network
        q = network.of_rows(batch.observations[i, 0, :, :size])[0]
        labels[i, 0, :, : q.shape[1]] = q.detach()  # heads per task: its own actions come first
    outputs = learner.module["student"].forward_train(batch)
    loss = learner.loss_of_module("student", config, batch, outputs)
    expected = distillation_kl_loss(
        labels, outputs.outputs, tau=TAU, legal_actions=batch.legal_of(outputs.outputs)
    )
    torch.testing.assert_close(loss.components["imitation_loss"], expected)
    loss.total.backward()
    for task in ("short", "long"):
        assert all(p.grad is None for p in learner.module[task].parameters())
    assert any(p.grad is not None for p in learner.module["student"].parameters())


def test_that_the_best_expert_is_kept_until_a_better_one_comes(online):
    learner, _ = filled_learner(online(lr=0.05))
    best = {task: copy.deepcopy(learner.module[task].best_network) for task in ("short", "long")}
    for returns, changed in (
        ({}, ()),
        ({"short": 1.0}, ("short",)),
        ({"short": 0.5, "long": -3.0}, ("long",)),
        ({"short": 1.0, "long": -4.0}, ()),
        ({"short": 1.5, "long": -2.0}, ("short", "long")),
    ):
        learner.update(**STEPS)
        learner.update(expert_returns=returns)
        for task in ("short", "long"):
            module = learner.module[task]
            if task in changed:
                best[task] = copy.deepcopy(module.network)
            assert_same(module.best_network, best[task])
    again, _ = filled_learner(online(lr=0.05))
    again.set_state(copy.deepcopy(learner.get_state()))
    again.update(expert_returns={"short": 1.2})
    assert_same(again.module["short"].best_network, best["short"])


def test_that_no_optimizer_holds_target_networks_or_the_best_experts(online):
    learner, _ = filled_learner(online())
    held = {id(p) for o in optimizers_of(learner) for group in o.param_groups for p in group["params"]}
    for module in learner.module.values():
        for name, parameter in module.named_parameters():
            assert (id(parameter) in held) == (not name.startswith(("target_network", "best_network")))


# -- objectives on trajectories ------------------------------------------------------------------------------
CLIP, PG_CLIP, VF, ENTROPY, RL, GAMMA = 0.9, 1.1, 0.4, 0.05, 0.5, 0.9
MIXED = {  # 3 and 2 actions, and ends of both kinds
    "income": {"env": Income, "max_episode_steps": 5},
    "corridor": {"env": Corridor, "max_episode_steps": 5},
}


@pytest.fixture
def make_sample(on_policy, tmp_path):
    """Returns a function that makes a learner and a sample that its own weights played."""

    def make(objective, tasks, network):
        config = on_policy(objective, network=network, tau=TAU, gamma=GAMMA, rl_coeff=RL)
        config.training(entropy_coeff=ENTROPY, vf_loss_coeff=VF)
        config.training(vtrace_clip_rho_threshold=CLIP, vtrace_clip_pg_rho_threshold=PG_CLIP)
        config.multi_task(tasks=tasks).experts(save_random_experts(tmp_path, tasks))
        learner, batch = learner_and_sample(config)
        learner.imitation_coeffs = dict(zip(tasks, (0.25, 1.5), strict=True))
        return learner, batch["student"]

    return make


def slow_loss(learner, batch):
    """V-trace, the entropy and the help of experts, one row at a time."""
    outputs = learner.module["student"].forward_train(batch)
    num_envs, of_tasks = batch.shape[2], []
    for n, task in enumerate(batch.tasks):
        legal = slice(None) if batch.legal_actions is None else batch.legal_actions[n, 0, 0]
        log_pi = outputs.outputs[n][..., legal].log_softmax(-1)
        log_expert = (batch.columns["expert_outputs"][n][..., legal] / TAU).log_softmax(-1)
        v, weight = outputs.values[n, ..., n], learner.imitation_coeffs[task]
        rows = []
        for b in range(num_envs):
            following = bootstrap = v[-1, b].item()
            for t in reversed(range(batch.shape[1])):
                column = {name: values[n, t, b] for name, values in batch.columns.items()}
                if not column["valid"]:  # what it shows is the end of the episode that is over
                    following = bootstrap = v[t, b].item()
                    continue
                if column["terminations"]:
                    following = bootstrap = 0.0
                elif column["truncations"]:
                    following = bootstrap = value_of_final(learner, batch, outputs, n, t, b, v[t + 1, b])
                action, value = column["actions"], v[t, b]
                pi, reward = log_pi[t, b].exp(), RL * column["rewards"]
                entropy = -(pi * log_pi[t, b]).sum()
                help_of_expert = -(log_expert[t, b].exp() * log_pi[t, b]).sum()
                baseline = value.item()
                if learner.config.objective == "expected_entropy_regularised":
                    help_of_expert = -(pi * log_expert[t, b]).sum()
                    baseline += weight * help_of_expert.item()  # without this step's own likelihood
                ratio = (log_pi[t, b, action] - column["behaviour_log_probs"]).exp().item()
                advantage = min(PG_CLIP, ratio) * (reward + GAMMA * following - baseline)
                if learner.config.objective == "expected_entropy_regularised":
                    reward = reward + weight * log_expert[t, b, action]
                delta = min(CLIP, ratio) * (reward + GAMMA * bootstrap - value.item())
                target = value.item() + delta + GAMMA * min(1.0, ratio) * (following - bootstrap)
                rows.append(
                    -log_pi[t, b, action] * float(advantage)
                    + VF * 0.5 * (value - float(target)) ** 2
                    - ENTROPY * entropy
                    + weight * help_of_expert
                )
                following, bootstrap = float(target), value.item()
        of_tasks.append(torch.stack(rows).mean())
    return torch.stack(of_tasks).mean()


def value_of_final(learner, batch, outputs, n, t, b, otherwise):
    """The value of what followed a truncated row: in SAME_STEP mode not the next row's."""
    for k, row in enumerate([] if batch.final is None else batch.final.rows[n].tolist()):
        if batch.final.valid[n, k] and row == t * batch.shape[2] + b:
            said = learner.module["student"].network(
                batch.final.observations[n, k][None, None, None],
                batch.tasks[n : n + 1],
                outputs.states[n, t, b][None, None],
            )
            return said.values[0, 0, 0, n].item()
    return otherwise.item()


@pytest.mark.parametrize("is_stale", [False, True])
@pytest.mark.parametrize("network", [{"type": "mlp", "hiddens": [8]}, LSTM], ids=["mlp", "lstm"])
@pytest.mark.parametrize("tasks", [TASKS, MIXED], ids=["same_step", "next_step"])
@pytest.mark.parametrize("objective", ON_POLICY)
def test_that_losses_on_trajectories_are_those_of_a_slow_loop(
    make_sample, objective, tasks, network, is_stale
):
    learner, batch = make_sample(objective, tasks, network)
    module = learner.module["student"]
    if is_stale:  # others played than those that learn
        with torch.no_grad():
            for parameter in module.parameters():
                parameter += 0.3 * torch.randn_like(parameter)
    outputs = module.forward_train(batch)
    log_pi = outputs.outputs[:, :-1]
    legal = batch.legal_of(log_pi)
    log_pi = masked(log_pi, legal).log_softmax(-1).gather(-1, batch.columns["actions"][..., None])[..., 0]
    ratios = (log_pi - batch.columns["behaviour_log_probs"]).exp()[batch.columns["valid"]]
    assert (ratios.max() > PG_CLIP and ratios.min() < 1) == is_stale
    assert batch.columns["truncations"].any() and (batch.final is None) == (tasks is MIXED)
    loss, slow = learner.loss_of_module("student", learner.config, batch, outputs), slow_loss(learner, batch)
    torch.testing.assert_close(loss.total, slow, rtol=1e-4, atol=1e-5)
    parameters = list(module.network.parameters())
    for mine, expected in zip(
        torch.autograd.grad(loss.total, parameters), torch.autograd.grad(slow, parameters), strict=True
    ):
        torch.testing.assert_close(mine, expected, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("objective", ON_POLICY)
def test_that_env_runners_leave_rewards_alone_and_tell_labels_and_log_probs(on_policy, bank, objective):
    """What an objective makes of them is the learner's matter."""
    config = on_policy(objective)
    config.validate()
    runner = MultiTaskEnvRunner(config=config, worker_index=0)
    for fragment in runner.sample():
        check_fragment(fragment, next_step=True)
        labels = bank.label(fragment.task, fragment.observations[:-1])
        torch.testing.assert_close(fragment.columns["expert_outputs"], labels.outputs)
        assert (fragment.columns["behaviour_log_probs"] <= 0.0).all()
        assert fragment.columns.keys() == {"expert_outputs", "behaviour_log_probs"}
    runner.stop()
