"""Policy Distillation's learners against plain PyTorch that does the same."""

import copy

import pytest
import torch

from tests.algorithms.test_learner import assert_same, build, masked

STEP = {"num_minibatches": 3, "timesteps": {"num_env_steps_sampled_lifetime": 0}}
TAU = 0.5
TAU_OF = {"short": 50.0, "long": 5.0}  # with small ones only the best action would count


def head_of(network, task):
    return getattr(network.head, f"of_{task}")


def outputs(network, batch, observations="obs"):
    """What the heads of a minibatch's tasks say, `(N, 4)`, written out."""
    layer = network.torso.layers[0]
    chunks = torch.relu(batch[observations] @ layer.weight.T + layer.bias).chunk(len(batch["tasks"]))
    rows = [head_of(network, task)(chunk) for task, chunk in zip(batch["tasks"], chunks, strict=True)]
    return torch.cat([torch.nn.functional.pad(row, (0, 4 - row.shape[1])) for row in rows])


def imitation(loss, batch, logits):
    legal, expert_q = batch["legal_actions"], batch["expert_outputs"]
    log_policy = masked(logits, legal).log_softmax(-1)
    if loss == "mse":
        squares = (logits - expert_q).square()
        return (squares if legal is None else squares * legal).sum(-1).mean()
    if loss == "nll":
        return -log_policy[torch.arange(12), masked(expert_q, legal).argmax(-1)].mean()
    tau = torch.tensor([TAU_OF[task] for task in batch["tasks"] for _ in range(12 // len(batch["tasks"]))])
    target = masked(expert_q / tau[:, None], legal).softmax(-1)
    return (torch.xlogy(target, target) - target * log_policy).sum(-1).mean()


@pytest.mark.parametrize("one_task", [True, False])
@pytest.mark.parametrize("loss", ["kl", "nll", "mse"])
def test_that_gradient_steps_are_those_of_plain_torch(distillation, loss, one_task):
    settings = {"lr": 0.01, "optimizer": {"type": "adam", "eps": 1e-5}, "one_task_per_minibatch": one_task}
    learner, drawn = build(distillation(loss=loss, tau=TAU_OF, **settings))
    plain = copy.deepcopy(learner.module["student"])
    optimizer = torch.optim.Adam(plain.parameters(), lr=0.01, eps=1e-5)
    learner.update(**STEP)
    assert len(drawn) == 3
    for _, batch in drawn:
        assert len(batch["obs"]) == 12
        assert len(batch["tasks"]) == (1 if one_task else 2)
        optimizer.zero_grad()
        imitation(loss, batch, outputs(plain.network, batch)).backward()
        optimizer.step()
    assert_same(learner.module["student"], plain)


def test_that_a_minibatch_of_one_task_leaves_the_other_heads_alone_and_that_tasks_take_turns(distillation):
    learner, drawn = build(distillation(lr=0.01))
    heads = {
        task: copy.deepcopy(head_of(learner.module["student"].network, task)) for task in ("short", "long")
    }
    learner.update(**{**STEP, "num_minibatches": 1})
    (played,) = drawn[0][1]["tasks"]
    other = "long" if played == "short" else "short"
    head = head_of(learner.module["student"].network, other)
    assert (head.weight == heads[other].weight).all()
    assert (head_of(learner.module["student"].network, played).weight != heads[played].weight).any()
    learner.update(**{**STEP, "num_minibatches": 60})
    counts = [batch["tasks"] for _, batch in drawn]
    assert 15 < counts.count(("short",)) < 45
    assert head.weight.shape[0] == {"short": 2, "long": 4}[other]


@pytest.mark.parametrize("coefficient", [1.0, 0.25])
def test_that_the_mixture_with_rl_tempers_both_sides_and_adds_the_td_loss(distillation, coefficient):
    settings = {"rl_coeff": 0.5, "gamma": 0.9, "lr": 0.01, "one_task_per_minibatch": False, "double_q": False}
    learner, drawn = build(
        distillation(tau=TAU, huber_delta=None, target_network_update_freq=100, **settings)
    )
    plain = copy.deepcopy(learner.module["student"].network)
    target = copy.deepcopy(plain)
    optimizer = torch.optim.Adam(plain.parameters(), lr=0.01)
    learner.update(**STEP, imitation_coeffs={"short": coefficient, "long": 1.0})
    weight = torch.tensor([coefficient, 1.0]).repeat_interleave(6)
    for _, batch in drawn:
        legal = batch["legal_actions"]
        q = outputs(plain, batch)
        pi = masked(batch["expert_outputs"] / TAU, legal).softmax(-1)
        kl = (torch.xlogy(pi, pi) - pi * masked(q / TAU, legal).log_softmax(-1)).sum(-1)
        with torch.no_grad():
            best = masked(outputs(target, batch, "new_obs"), legal).amax(-1)
            y = batch["rewards"] + batch["discounts"] * best
        td = 0.5 * (q[torch.arange(12), batch["actions"]] - y) ** 2
        optimizer.zero_grad()
        ((weight * kl).mean() + 0.5 * td.mean()).backward()
        optimizer.step()
    assert_same(learner.module["student"].network, plain)


def test_that_the_on_policy_objective_looks_at_the_newest_sample_only_and_at_expert_likelihoods(distillation):
    config = distillation(objective="expected_entropy_regularised", tau=TAU, epsilon=0.0, n_step=3, lr=0.01)
    learner, drawn = build(config.experts(behaviour="student"))
    assert learner.memory.capacity == 8 * 3  # a fragment's rows times environments
    module = copy.deepcopy(learner.module["student"])
    learner.update(**{**STEP, "num_minibatches": 1})
    batch = drawn[0][1]
    legal = batch["legal_actions"]
    log_expert = masked(batch["expert_outputs"] / TAU, legal).log_softmax(-1)
    log_policy = masked(outputs(module.network, batch), legal).log_softmax(-1)
    own = (log_policy.exp() * (log_expert if legal is None else log_expert * legal)).sum(-1)
    with torch.no_grad():
        features = module.network(batch["obs"], batch["tasks"])[1]
        next_features = module.network(batch["new_obs"], batch["tasks"])[1]
        value, next_value = module.value_head(features)[:, 0], module.value_head(next_features)[:, 0]
        returns = batch["rewards"] + batch["discounts"] * next_value
        later = returns - log_expert[torch.arange(12), batch["actions"]]
        advantage = later - (value - own)
    loss = -(own + log_policy[torch.arange(12), batch["actions"]] * advantage).mean()
    gradient = torch.autograd.grad(loss, module.network.torso.layers[0].weight)[0]
    torch.testing.assert_close(
        learner.module["student"].network.torso.layers[0].weight.grad, gradient, rtol=1e-3, atol=1e-5
    )


def test_that_rewards_of_the_on_policy_objective_are_the_experts_log_likelihoods(distillation, bank):
    from rllib_distill.env_runner.multi_task_env_runner import MultiTaskEnvRunner

    config = distillation(objective="expected_entropy_regularised", tau=TAU, epsilon=0.0)
    config.experts(behaviour="student").validate()
    for fragment in MultiTaskEnvRunner(config=config, worker_index=0).sample():
        q = torch.from_numpy(fragment.labels["expert_outputs"])
        wanted = (q / TAU).log_softmax(-1).gather(-1, torch.from_numpy(fragment.actions)[..., None])[..., 0]
        torch.testing.assert_close(torch.from_numpy(fragment.rewards), wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("which", ["current", "best"])
def test_that_learning_experts_label_the_students_rows_and_do_not_learn_from_them(online, which):
    config = online(tau=TAU, lr=0.01).experts(online_expert=which)
    learner, _ = build(config)
    minibatch = learner._minibatches["student"].draw()
    labels = learner._labels(minibatch)
    assert labels.shape == (12, 4)
    for i, (task, size) in enumerate((("short", 3), ("long", 5))):
        rows, module = slice(6 * i, 6 * i + 6), learner.module[task]
        network = module.network if which == "current" else module.best_network
        q = network(minibatch["obs"][rows, :size])[0]
        torch.testing.assert_close(
            labels[rows, : q.shape[1]], q
        )  # heads per task: its own actions come first
    batch = {"student": minibatch}
    learner.compute_losses(fwd_out=learner.module.forward_train(batch), batch=batch)["student"].backward()
    for task in ("short", "long"):
        assert all(p.grad is None for p in learner.module[task].parameters())
    assert any(p.grad is not None for p in learner.module["student"].parameters())


def test_that_the_best_expert_is_kept_until_a_better_one_comes(online):
    learner, _ = build(online(lr=0.05))
    best = {task: copy.deepcopy(learner.module[task].best_network) for task in ("short", "long")}
    for returns, changed in (
        ({}, ()),
        ({"short": 1.0}, ("short",)),
        ({"short": 0.5, "long": -3.0}, ("long",)),
        ({"short": 1.0, "long": -4.0}, ()),
        ({"short": 1.5, "long": -2.0}, ("short", "long")),
    ):
        learner.update(**STEP)
        learner.update(expert_returns=returns)
        for task in ("short", "long"):
            module = learner.module[task]
            if task in changed:
                best[task] = copy.deepcopy(module.network)
            assert_same(module.best_network, best[task])
    again, _ = build(online(lr=0.05))
    again.set_state(copy.deepcopy(learner.get_state()))
    again.update(expert_returns={"short": 1.2})
    assert_same(again.module["short"].best_network, best["short"])


def test_that_no_optimizer_holds_target_networks_or_the_best_experts(online):
    learner, _ = build(online())
    held = {
        id(p) for o in learner._named_optimizers.values() for group in o.param_groups for p in group["params"]
    }
    for module in learner.module.values():
        for name, parameter in module.named_parameters():
            assert (id(parameter) in held) == (not name.startswith(("target_network", "best_network")))
