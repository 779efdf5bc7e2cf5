"""The losses of Distral's learners, beside slow loops; who gets gradients from which part."""

import numpy as np
import pytest
import torch
from gymnasium.vector import SyncVectorEnv

from rllib_distill.algorithms.soft_q_distral.tabular import visit_weights
from rllib_distill.core.learner import FragmentData
from rllib_distill.env_runner import MultiTaskEnvRunner
from rllib_distill.tasks.two_rooms import TwoRoomsVectorEnv
from tests.algorithms.distral_tasks import TASKS, WRAPPED, distral, soft_q, tabular
from tests.learners import STEP, learner_and_sample

GAMMA, ALPHA, BETA = 0.9, 0.5, 4.0
LSTM = {"type": "mlp", "hiddens": [8], "lstm": 4}
VARIANTS = ["a3c", "a3c_multitask", "a3c_2col", "kl_1col", "kl_2col", "kl_ent_1col", "kl_ent_2col"]


def assert_as_played(learner, batch):
    """The learner finds the probabilities with which the runner acted."""
    log_policies = torch.log_softmax(learner.module.forward_train(batch).logits[:, :-1], -1)
    log_probs = log_policies.gather(-1, batch.columns["actions"][..., None])[..., 0]
    valid = batch.columns["valid"]
    torch.testing.assert_close(log_probs[valid], batch.columns["behaviour_log_probs"][valid])


@pytest.mark.parametrize("network", [{"type": "mlp", "hiddens": [8]}, LSTM])
@pytest.mark.parametrize("tasks", [TASKS, WRAPPED], ids=["same_step", "next_step"])
def test_that_the_learner_computes_what_the_runner_did(tasks, network):
    config = distral("kl_ent_2col", tasks=tasks, network=network)
    learner, runner = config.build_learner(), MultiTaskEnvRunner(config=config)
    runner.module.set_state(learner.module.get_state())
    for i in range(4):
        if i == 2:
            runner.sample(num_episodes=1)  # all environments begin anew
        for fragment in runner.sample():
            learner.store.add(fragment)
        batch = learner.draw_minibatch()
        assert batch.columns["truncations"].any()
        assert_as_played(learner, batch)
    runner.stop()


@pytest.mark.parametrize(
    ("tasks", "vector_env"),
    [(TASKS, TwoRoomsVectorEnv), (WRAPPED, SyncVectorEnv)],
    ids=["same_step", "next_step"],
)
def test_that_a_recurrent_state_begins_anew_after_a_lost_life(tasks, vector_env, monkeypatch):
    step, random = vector_env.step, np.random.default_rng(0)

    def losing_lives(self, actions):
        *rest, terminations, truncations, infos = step(self, actions)
        lost = terminations | (random.random(self.num_envs) < 0.3)
        return *rest, terminations, truncations, {**infos, "training_terminations": lost}

    monkeypatch.setattr(vector_env, "step", losing_lives)
    learner, batch = learner_and_sample(distral("kl_ent_2col", tasks=tasks, network=LSTM))
    assert_as_played(learner, batch)


def slow_losses(learner, batch):
    """Equations (9) and (10) on policy, one row at a time."""
    outputs = learner.module.forward_train(batch)
    pi = torch.softmax(outputs.logits, -1).detach().numpy()
    pi_0 = torch.softmax(outputs.distilled_logits, -1).detach().numpy()
    values = outputs.values.detach().numpy()
    losses = {}
    for n, task in enumerate(batch.tasks):
        rows, distilled_rows = [], []
        for b in range(batch.shape[2]):
            following = values[n, -1, b]
            for t in reversed(range(batch.shape[1])):
                column = {name: column[n, t, b].item() for name, column in batch.columns.items()}
                if not column["valid"]:
                    following = values[n, t, b]  # the last observation of the episode that ended before
                    continue
                a = column["actions"]
                reward = column["rewards"]
                reward += ALPHA / BETA * np.log(pi_0[n, t, b, a]) - np.log(pi[n, t, b, a]) / BETA
                if column["terminations"]:
                    following = 0.0
                elif column["truncations"]:
                    following = value_of_final(learner, batch, outputs, n, t, b, values[n, t + 1, b])
                target = reward + GAMMA * following
                advantage = target - values[n, t, b]
                vf_loss = learner.config.vf_loss_coeff * 0.5 * advantage**2
                rows.append(-np.log(pi[n, t, b, a]) * advantage + vf_loss)
                distilled_rows.append(-ALPHA / BETA * (pi[n, t, b] * np.log(pi_0[n, t, b])).sum())
                following = target
        losses[task] = np.mean(rows)
        losses["distilled"] = losses.get("distilled", 0.0) + np.mean(distilled_rows)
    return losses


def value_of_final(learner, batch, outputs, n, t, b, otherwise):
    """The value of what followed a truncated row: in SAME_STEP mode not the next row's."""
    for k, row in enumerate([] if batch.final is None else batch.final.rows[n].tolist()):
        if batch.final.valid[n, k] and row == t * batch.shape[2] + b:
            final = learner.module.policies(
                batch.final.observations[n, k][None, None, None],
                batch.tasks[n : n + 1],
                outputs.states[n, t, b][None, None],
                torch.zeros(1, 1, 1, dtype=torch.bool),
            )
            return final.values.item()
    return otherwise


@pytest.mark.parametrize("network", [{"type": "mlp", "hiddens": [8]}, LSTM])
@pytest.mark.parametrize("tasks", [TASKS, WRAPPED], ids=["same_step", "next_step"])
@pytest.mark.parametrize("variant", ["kl_ent_1col", "kl_ent_2col"])
def test_that_on_policy_losses_are_the_papers(variant, tasks, network):
    config = distral(variant, tasks=tasks, network=network, alpha=ALPHA, beta=BETA, gamma=GAMMA)
    learner, batch = learner_and_sample(config)
    losses = learner.compute_losses(fwd_out=learner.module.forward_train(batch), batch=batch)
    expected = slow_losses(learner, batch)
    assert losses.keys() == expected.keys()
    for module_id, loss in losses.items():
        assert loss.item() == pytest.approx(expected[module_id], rel=1e-4)


def gradient_norms(learner, loss):
    """Module id -> norm of the loss's gradient."""
    for module in learner.module.values():
        module.zero_grad()
    loss.backward(retain_graph=True)
    return {
        module_id: sum(
            float(p.grad.norm()) for p in learner.module[module_id].parameters() if p.grad is not None
        )
        for module_id in learner.module.keys()
    }


@pytest.mark.parametrize("variant", ["a3c_2col", "kl_2col", "kl_ent_2col"])
def test_that_returns_shape_the_distilled_column_of_two(variant):
    learner, batch = learner_and_sample(distral(variant))
    losses = learner.compute_losses(fwd_out=learner.module.forward_train(batch), batch=batch)
    norms = gradient_norms(learner, losses["left"])
    assert norms["left"] > 0 and norms["distilled"] > 0 and norms["right"] == 0


@pytest.mark.parametrize("variant", ["kl_1col", "kl_ent_1col"])
def test_that_returns_do_not_reach_the_distilled_policy_from_one_column(variant):
    learner, batch = learner_and_sample(distral(variant))
    losses = learner.compute_losses(fwd_out=learner.module.forward_train(batch), batch=batch)
    norms = gradient_norms(learner, losses["left"])
    assert norms["left"] > 0 and norms["distilled"] == 0 and norms["right"] == 0


@pytest.mark.parametrize("variant", ["kl_1col", "kl_2col"])
def test_that_the_distilled_policys_loss_moves_nobody_else(variant):
    learner, batch = learner_and_sample(distral(variant))
    with torch.no_grad():  # so that pi_i is not pi_0
        for parameter in learner.module["left"].parameters():
            parameter += torch.randn_like(parameter)
    losses = learner.compute_losses(fwd_out=learner.module.forward_train(batch), batch=batch)
    norms = gradient_norms(learner, losses["distilled"])
    assert norms["distilled"] > 0 and norms["left"] == 0 and norms["right"] == 0


@pytest.mark.parametrize("variant", VARIANTS)
def test_that_every_variant_learns_with_the_modules_it_needs(variant):
    config = distral(variant)
    learner, _ = learner_and_sample(config, samples=1)
    wanted = {
        "a3c": {"left", "right"},
        "a3c_multitask": {"distilled"},
    }.get(variant, {"left", "right", "distilled"})
    assert set(learner.module.keys()) == wanted
    runner = MultiTaskEnvRunner(config=config)
    before = {module_id: learner.module[module_id].get_state() for module_id in wanted}
    for _ in range(2):
        learner.update(training_data=FragmentData([(0, runner.sample())]), num_minibatches=1)
    runner.stop()
    for module_id in wanted:
        after = learner.module[module_id].get_state()
        assert any((before[module_id][name] != after[name]).any() for name in after), module_id


def test_that_a_rank_without_a_sample_follows_the_others():
    learner = distral().build_learner()
    before = learner.module["left"].get_state()
    learner.update(num_minibatches=1)
    after = learner.module["left"].get_state()
    assert all((before[name] == after[name]).all() for name in after)


def test_that_each_task_has_its_own_coefficients():
    learner = distral(alpha={"left": 0.25, "right": 1.0}, beta={"left": 2.0, "right": 8.0}).build_learner()
    assert learner.alpha.flatten().tolist() == [0.25, 1.0]
    assert learner.beta.flatten().tolist() == [2.0, 8.0]


def test_that_soft_q_steps_do_not_touch_the_distilled_policy_and_distillation_not_q(monkeypatch):
    learner, batch = learner_and_sample(soft_q())
    with torch.no_grad():
        for module in learner.module.values():
            for parameter in module.network.parameters():
                parameter += 0.1 * torch.randn_like(parameter)
    steps = []

    def remember(losses, *, module_ids):
        steps.append((tuple(module_ids), gradient_norms(learner, sum(losses.values()))))

    monkeypatch.setattr(learner, "take_step", remember)
    monkeypatch.setattr(learner, "draw_minibatch", lambda: batch)
    learner.update(**STEP)
    (of_tasks, q_norms), (of_distilled, norms) = steps
    assert (of_tasks, of_distilled) == (("left", "right"), ("distilled",))
    assert q_norms["left"] > 0 and q_norms["right"] > 0 and q_norms["distilled"] == 0
    assert norms["distilled"] > 0 and norms["left"] == norms["right"] == 0


def test_that_soft_q_without_distillation_has_a_uniform_prior_and_no_distilled_module(monkeypatch):
    learner, batch = learner_and_sample(soft_q(distil=False, n_step=1))
    assert set(learner.module.keys()) == {"left", "right"}
    said = {}
    monkeypatch.setattr(learner, "draw_minibatch", lambda: batch)
    monkeypatch.setattr(learner, "keep_metrics", lambda module_id, batch, named: said.update(named))
    learner.update(**STEP)
    # Q is 0 at first: V = (1 / beta) log sum_a (1 / A)^alpha = 0 with alpha = 1, so rewards alone are left.
    valid, rewards = batch.columns["valid"], batch.columns["rewards"]
    assert (rewards[valid] != 0).any()
    torch.testing.assert_close(said["td_loss"][valid], 0.5 * rewards[valid].square())


def test_that_a_table_moves_as_so_many_steps_one_by_one_would():
    entries, valid = torch.tensor([[3, 3], [3, 0]]), torch.tensor([[True, True], [True, False]])
    weights = visit_weights(entries, valid, 0.1)
    assert weights[0, 0].item() == pytest.approx((1 - 0.9**3) / 0.3)
    assert weights[1, 1].item() == 0.0
    value, target = 1.0, 5.0
    for _ in range(3):
        value += 0.1 * (target - value)
    assert 1.0 + 0.1 * 3 * weights[0, 0].item() * (target - 1.0) == pytest.approx(value)


def test_that_tabular_entries_that_nobody_visited_stay_where_they_are(monkeypatch):
    learner, batch = learner_and_sample(tabular())
    monkeypatch.setattr(learner, "draw_minibatch", lambda: batch)
    learner.update(**STEP)
    table = learner.module["left"].network.head.weight
    states = batch.observations[0, :-1].flatten(0, 1).byte().argmax(-1)
    unvisited = [s for s in range(table.shape[1]) if s not in states.tolist()]
    assert unvisited and (table[:, unvisited] == 0).all() and (table != 0).any()


@pytest.mark.parametrize("network", [{"type": "mlp", "hiddens": [8]}, LSTM])
def test_that_samples_of_several_runners_make_one_step_on_the_mean_of_their_losses(network):
    config = distral("kl_ent_2col", network=network)
    learner, runner = config.build_learner(), MultiTaskEnvRunner(config=config)
    samples = [runner.sample() for _ in range(3)]
    runner.stop()

    def losses_of(*samples):
        for fragment in (fragment for sample in samples for fragment in sample):
            learner.store.add(fragment)
        batch = learner.draw_minibatch()
        losses = learner.compute_losses(fwd_out=learner.module.forward_train(batch), batch=batch)
        return {module_id: float(loss.detach()) for module_id, loss in losses.items()}

    singly = [losses_of(sample) for sample in samples]
    assert losses_of(*samples) == pytest.approx(
        {module_id: np.mean([losses[module_id] for losses in singly]) for module_id in singly[0]}, rel=1e-5
    )
    learner.update(training_data=FragmentData([(0, sample) for sample in samples]), num_minibatches=1)
    assert learner.num_updates == 1 and len(learner.store) == 0
    rows = sum(fragment.actions.size for sample in samples for fragment in sample)
    assert learner.rows_per_minibatch == learner.minibatch_weight == rows
