"""Q-learning's steps against plain PyTorch that does the same; a network for each task, or one for all."""

import copy

import pytest
import torch

from rllib_distill import MultiTaskDQNConfig
from rllib_distill.errors import DistillError
from tests.configs import small
from tests.env_runner.counting_env import NAMED_TASKS
from tests.learners import STEP, assert_same, filled_learner, learner_of, rows_of


@pytest.mark.parametrize(
    ("double_q", "huber_delta", "n_step"), [(True, 1.0, 1), (False, None, 1), (True, 1.0, 3)]
)
def test_that_gradient_steps_are_those_of_plain_torch(dqn, double_q, huber_delta, n_step):
    settings = {"lr": 0.01, "gamma": 0.9, "target_network_update_freq": 2, "target_network_tau": 0.75}
    learner, drawn = filled_learner(
        dqn(double_q=double_q, huber_delta=huber_delta, n_step=n_step, **settings)
    )
    plain = {task: copy.deepcopy(learner.module[task].network) for task in ("short", "long")}
    targets = copy.deepcopy(plain)
    optimizers = {task: torch.optim.Adam(net.parameters(), lr=0.01) for task, net in plain.items()}
    result = learner.update(**{**STEP, "num_minibatches": 5})
    losses = {}
    for i, (task, batch) in enumerate(drawn):
        discounts = rows_of(batch, "discounts")
        with torch.no_grad():
            following = rows_of(batch, "next_observations")
            next_q = targets[task].of_rows(following)[0]
            best = (plain[task] if double_q else targets[task]).of_rows(following)[0].argmax(-1)
            value = next_q[torch.arange(6), best]
            powers = torch.tensor([0.0, *(0.9**m for m in range(1, n_step + 1))])
            assert all((powers - discount).abs().min() < 1e-6 for discount in discounts)
            y = rows_of(batch, "rewards") + discounts * value
        error = plain[task].of_rows(rows_of(batch))[0][torch.arange(6), rows_of(batch, "actions")] - y
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


@pytest.mark.usefixtures("ray_session")
def test_that_one_shared_network_learns_all_tasks_with_a_head_each(tmp_path):
    config = small(MultiTaskDQNConfig(shared=True)).training(n_step=2)
    algo = config.build_algo()
    results = [algo.train() for _ in range(4)][-1]
    learner = learner_of(algo)
    assert list(learner.module.keys()) == ["shared"]
    heads = learner.module["shared"].network.head
    assert [heads[task].weight.shape[0] for task in ("short", "long")] == [2, 4]
    assert set(results["learners"]["shared"]["td_loss"]) == {"short", "long"}
    with pytest.raises(DistillError, match=r"no network of each task's own.*shared: false"):
        algo.export_experts(tmp_path)
    algo.save_to_path(tmp_path / "checkpoint")
    assert not (tmp_path / "checkpoint" / "experts").exists()
    algo.stop()


@pytest.mark.parametrize("order", [("shared", "tasks"), ("tasks", "shared")])
def test_that_shared_may_come_before_or_after_the_tasks(order):
    values = {"shared": True, "tasks": NAMED_TASKS}
    config = MultiTaskDQNConfig().update_from_dict({key: values[key] for key in order})
    assert list(config.policies) == ["shared"]
    assert config.policy_mapping_fn("long", None) == "shared"
    config = MultiTaskDQNConfig().multi_task(tasks=NAMED_TASKS).training(shared=True)
    assert list(config.policies) == ["shared"]


def test_that_separate_networks_draw_side_by_side_whatever_one_task_per_minibatch_says(dqn):
    config = dqn(one_task_per_minibatch=True)
    config.validate()
    assert not config.minibatch_is_of_one_task


@pytest.mark.parametrize(
    ("key", "value", "allowed"),
    [
        ("target_network_tau", 0, "> 0"),
        ("target_network_tau", 1.5, "<= 1"),
        ("huber_delta", 0, "> 0"),
        ("double_q", "yes", "double_q"),
        ("n_step", 0, ">= 1"),
        ("shared", "yes", "true or false"),
        ("target_network_update_freq", 0, ">= 1"),
        ("network", {"type": "mlp", "lstm": 8}, "lstm"),
    ],
)
def test_that_a_bad_value_is_refused(dqn, refused, key, value, allowed):
    with refused(key, allowed):
        dqn().update_from_dict({key: value}).validate()
