"""The learners against plain PyTorch that does the same."""

import copy

import numpy as np
import pytest
import torch
from ray.rllib.core import COMPONENT_RL_MODULE
from ray.rllib.utils.metrics import ALL_MODULES, WEIGHTS_SEQ_NO

from rllib_distill.core.learner import FragmentData
from rllib_distill.env_runner.multi_task_env_runner import MultiTaskEnvRunner


def build(config):
    """A learner whose replay memory is filled, and the list of the minibatches it will have drawn."""
    config.validate()
    learner = config.get_default_learner_class()(config=config, module_spec=config.get_multi_rl_module_spec())
    learner.build()
    fragments = MultiTaskEnvRunner(config=config, worker_index=0).sample(num_timesteps=300)
    for fragment in fragments:  # networks like small numbers
        fragment.frames /= 100.0
        fragment.rewards /= 100.0
    learner.update(training_data=FragmentData([(0, fragments)]))
    drawn = []
    for module_id, minibatches in learner._minibatches.items():
        draw = minibatches.draw

        def remember(draw=draw, module_id=module_id):
            batch = draw()
            drawn.append((module_id, copy.deepcopy(batch)))
            return batch

        minibatches.draw = remember
    return learner, drawn


def assert_same(module, expected):
    parameters = dict(expected.named_parameters())
    for name, parameter in module.named_parameters():
        torch.testing.assert_close(parameter, parameters[name], rtol=1e-4, atol=1e-6)


def masked(values, legal):
    return values if legal is None else values.masked_fill(~legal, -1e30)


@pytest.mark.parametrize("tau", [0.5, {"short": 50.0, "long": 5.0}])  # small ones leave the best action only
@pytest.mark.parametrize("beta", [0.0, 0.05])
def test_that_actor_mimics_gradient_steps_are_those_of_plain_torch(actor_mimic, beta, tau):
    tau_of_rows = torch.tensor([0.5] * 12 if tau == 0.5 else [50.0] * 6 + [5.0] * 6)[:, None]
    learner, drawn = build(actor_mimic(beta=beta, tau=tau, lr=0.01, optimizer={"type": "adam", "eps": 1e-5}))
    plain = copy.deepcopy(learner.module["student"])
    optimizer = torch.optim.Adam(plain.parameters(), lr=0.01, eps=1e-5)
    learner.update(num_minibatches=3, timesteps={"num_env_steps_sampled_lifetime": 0})
    assert len(drawn) == 3
    for _, batch in drawn:
        hidden = torch.relu(
            batch["obs"] @ plain.network.torso.layers[0].weight.T + plain.network.torso.layers[0].bias
        )
        logits = hidden @ plain.network.head.weight.T + plain.network.head.bias
        legal = batch["legal_actions"]
        target = masked(batch["expert_outputs"] / tau_of_rows, legal).softmax(-1)
        loss = -(target * masked(logits, legal).log_softmax(-1)).sum(-1).mean()
        if beta:
            squares = [
                (plain.feature_regressors[task](h) - features).square().sum(-1)
                for task, h, features in zip(
                    ("short", "long"), hidden.split(6), batch["expert_features"], strict=True
                )
            ]
            loss = loss + beta * torch.cat(squares).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert_same(learner.module["student"], plain)


@pytest.mark.parametrize(
    ("double_q", "huber_delta", "n_step"), [(True, 1.0, 1), (False, None, 1), (True, 1.0, 3)]
)
def test_that_dqns_gradient_steps_are_those_of_plain_torch(dqn, double_q, huber_delta, n_step):
    settings = {"lr": 0.01, "gamma": 0.9, "target_network_update_freq": 2, "tau": 0.75, "n_step": n_step}
    learner, drawn = build(dqn(double_q=double_q, huber_delta=huber_delta, **settings))
    plain = {task: copy.deepcopy(learner.module[task].network) for task in ("short", "long")}
    targets = copy.deepcopy(plain)
    optimizers = {task: torch.optim.Adam(net.parameters(), lr=0.01) for task, net in plain.items()}
    result = learner.update(num_minibatches=5, timesteps={"num_env_steps_sampled_lifetime": 0})
    losses = {}
    for i, (task, batch) in enumerate(drawn):
        with torch.no_grad():
            next_q = targets[task](batch["new_obs"])[0]
            best = (plain[task] if double_q else targets[task])(batch["new_obs"])[0].argmax(-1)
            value = next_q[torch.arange(6), best]
            powers = torch.tensor([0.0, *(0.9**m for m in range(1, n_step + 1))])
            assert all((powers - discount).abs().min() < 1e-6 for discount in batch["discounts"])
            y = batch["rewards"] + batch["discounts"] * value
        error = plain[task](batch["obs"])[0][torch.arange(6), batch["actions"]] - y
        square = 0.5 * error**2
        per_row = (
            square if huber_delta is None else torch.where(error.abs() <= 1.0, square, error.abs() - 0.5)
        )
        optimizers[task].zero_grad()
        losses[task] = per_row.mean()
        losses[task].backward()
        optimizers[task].step()
        if i // 2 % 2 == 1:  # after the second minibatch of each module, and the fourth
            for target, online in zip(targets[task].parameters(), plain[task].parameters(), strict=True):
                target.data = 0.75 * online.data + 0.25 * target.data
    for task in plain:
        assert_same(learner.module[task].network, plain[task])
        assert_same(learner.module[task].target_network, targets[task])
        assert result[task]["td_loss"][task].peek() == pytest.approx(losses[task].item(), rel=1e-3)


def test_that_an_illegal_action_gets_no_gradient_through_the_whole_loss(actor_mimic):
    learner, _ = build(actor_mimic(beta=0.1, tau=0.01))
    batch = {"student": learner._minibatches["student"].draw()}
    outputs = learner.module.forward_train(batch)
    logits = outputs["student"]["action_dist_inputs"]
    logits.retain_grad()
    sum(learner.compute_losses(fwd_out=outputs, batch=batch).values()).backward()
    legal = batch["student"]["legal_actions"]
    assert not legal.all()
    assert (logits.grad[~legal] == 0.0).all()
    assert (logits.grad[legal] != 0.0).any()
    only_short = {"student": {**batch["student"], "legal_actions": legal[:1].repeat(12, 1)}}
    learner.module["student"].zero_grad()
    sum(
        learner.compute_losses(fwd_out=learner.module.forward_train(only_short), batch=only_short).values()
    ).backward()
    gradient = learner.module["student"].network.head.weight.grad
    assert (gradient[[1, 2]] == 0.0).all()  # u and d, which "short" does not have
    assert (gradient[[0, 3]] != 0.0).any()


def test_that_metrics_are_those_of_the_last_minibatch(actor_mimic):
    learner, drawn = build(actor_mimic(beta=0.1, tau=0.5, lr=1e-12))
    result = learner.update(num_minibatches=2, timesteps={"num_env_steps_sampled_lifetime": 0})
    batch = drawn[-1][1]
    logits, _ = learner.module["student"].network(batch["obs"])
    legal, expert = batch["legal_actions"], batch["expert_outputs"]
    loss = -(masked(expert / 0.5, legal).softmax(-1) * masked(logits, legal).log_softmax(-1)).sum(-1)
    agrees = masked(expert, legal).argmax(-1) == masked(logits, legal).argmax(-1)
    for i, task in enumerate(("short", "long")):
        rows, metrics = slice(6 * i, 6 * i + 6), result["student"]
        assert metrics["policy_regression_loss"][task].peek() == pytest.approx(
            loss[rows].mean().item(), rel=1e-4
        )
        assert metrics["greedy_agreement"][task].peek() == pytest.approx(float(agrees[rows].float().mean()))
        assert metrics["feature_regression_loss"][task].peek() > 0.0
    assert result[ALL_MODULES]["num_env_steps_trained"].peek() == 24
    assert result[ALL_MODULES]["num_updates_lifetime"].peek() == learner.num_updates == 2


def test_that_optimizers_hold_the_trainable_parameters_once_and_nothing_else(actor_mimic, dqn):
    for config in (actor_mimic(beta=0.1), dqn()):
        learner, _ = build(config)
        held = [
            parameter
            for optimizer in learner._named_optimizers.values()
            for group in optimizer.param_groups
            for parameter in group["params"]
        ]
        wanted = [
            parameter
            for module in learner.module.values()
            for name, parameter in module.named_parameters()
            if not name.startswith("target_network")
        ]
        assert len(held) == len(wanted)
        assert {id(p) for p in held} == {id(p) for p in wanted}


def test_that_a_loss_that_is_no_number_stops_the_run(actor_mimic):
    learner, _ = build(actor_mimic())
    with torch.no_grad():
        learner.module["student"].network.head.bias[0] = float("nan")
    with pytest.raises(RuntimeError, match="nan after 1 updates"):
        learner.update(num_minibatches=1, timesteps={"num_env_steps_sampled_lifetime": 0})


def test_that_gradients_are_clipped_where_the_config_says_so(actor_mimic):
    step = {}
    for clip in (None, 1e-4):
        learner, _ = build(actor_mimic(grad_clip=clip, lr=0.1, optimizer={"type": "adam", "eps": 1.0}))
        before = learner.module["student"].network.head.weight.detach().clone()
        learner.update(num_minibatches=1, timesteps={"num_env_steps_sampled_lifetime": 0})
        step[clip] = (learner.module["student"].network.head.weight - before).abs().max()
    assert 0 < step[1e-4] <= 1.01e-5 < step[None]


def test_that_the_learning_rate_follows_its_schedule(actor_mimic):
    learner, _ = build(actor_mimic(lr=[[0, 0.1], [1000, 0.01]]))
    for steps, lr in ((0, 0.1), (500, 0.055), (2000, 0.01)):
        learner.update(num_minibatches=1, timesteps={"num_env_steps_sampled_lifetime": steps})
        assert learner.get_optimizer("student").param_groups[0]["lr"] == pytest.approx(lr)


def test_that_state_of_an_older_update_is_taken_over_whole(actor_mimic):
    learner, _ = build(actor_mimic())
    step = {"num_minibatches": 1, "timesteps": {"num_env_steps_sampled_lifetime": 0}}
    learner.update(**step)
    state = copy.deepcopy(learner.get_state())
    learner.update(**step)
    learner.update(**step)
    learner.set_state(state)
    assert (learner.num_updates, learner.get_state()[WEIGHTS_SEQ_NO]) == (1, state[WEIGHTS_SEQ_NO])
    restored, saved = (
        learner.get_state()[COMPONENT_RL_MODULE]["student"],
        state[COMPONENT_RL_MODULE]["student"],
    )
    assert all((np.asarray(restored[name]) == np.asarray(saved[name])).all() for name in saved)


def test_that_equal_seeds_learn_equally(actor_mimic):
    weights = []
    for seed in (1, 1, 2):
        learner, _ = build(actor_mimic().debugging(seed=seed))
        learner.update(num_minibatches=3, timesteps={"num_env_steps_sampled_lifetime": 0})
        weights.append(learner.module["student"].network.head.weight.detach())
    assert (weights[0] == weights[1]).all()
    assert (weights[0] != weights[2]).any()
