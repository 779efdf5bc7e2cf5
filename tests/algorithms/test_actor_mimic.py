"""Actor-Mimic's gradient steps against plain PyTorch that does the same; what its module consists of."""

import copy

import pytest
import torch
from ray.rllib.utils.metrics import ALL_MODULES

from tests.learners import (
    STEP,
    STEPS,
    assert_same,
    filled_learner,
    legal_rows,
    masked,
    rows_of,
)


@pytest.mark.parametrize("tau", [0.5, {"short": 50.0, "long": 5.0}])  # small ones leave the best action only
@pytest.mark.parametrize("beta", [0.0, 0.05])
def test_that_gradient_steps_are_those_of_plain_torch(actor_mimic, beta, tau):
    tau_of_rows = torch.tensor([0.5] * 12 if tau == 0.5 else [50.0] * 6 + [5.0] * 6)[:, None]
    optimizer = {"type": "adam", "eps": 1e-5}
    learner, drawn = filled_learner(actor_mimic(beta=beta, tau=tau, lr=0.01, optimizer=optimizer))
    plain = copy.deepcopy(learner.module["student"])
    optimizer = torch.optim.Adam(plain.parameters(), lr=0.01, eps=1e-5)
    learner.update(**STEPS)
    assert len(drawn) == 3
    for _, batch in drawn:
        layer = plain.network.torso.layers[0]
        hidden = torch.relu(rows_of(batch) @ layer.weight.T + layer.bias)
        logits = hidden @ plain.network.head.weight.T + plain.network.head.bias
        legal = legal_rows(batch)
        target = masked(rows_of(batch, "expert_outputs") / tau_of_rows, legal).softmax(-1)
        loss = -(target * masked(logits, legal).log_softmax(-1)).sum(-1).mean()
        if beta:
            features = [of_task.flatten(0, 1) for of_task in batch.columns["expert_features"]]
            squares = [
                (plain.feature_regressors[task](h) - of_task).square().sum(-1)
                for task, h, of_task in zip(("short", "long"), hidden.split(6), features, strict=True)
            ]
            loss = loss + beta * torch.cat(squares).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert_same(learner.module["student"], plain)


def test_that_metrics_are_those_of_the_last_minibatch(actor_mimic):
    learner, drawn = filled_learner(actor_mimic(beta=0.1, tau=0.5, lr=1e-12))
    result = learner.update(**{**STEP, "num_minibatches": 2})
    batch = drawn[-1][1]
    logits, _ = learner.module["student"].network.of_rows(rows_of(batch))
    legal, expert = legal_rows(batch), rows_of(batch, "expert_outputs")
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


def test_that_beta_zero_builds_no_feature_regression(actor_mimic):
    module = actor_mimic(beta=0.0).get_multi_rl_module_spec().build()["student"]
    assert {name.split(".")[0] for name, _ in module.named_parameters()} == {"network"}
    with_features = actor_mimic(beta=0.1).get_multi_rl_module_spec().build()["student"]
    regressors = with_features.feature_regressors
    sizes = {task: regressors[task].weight.shape for task in regressors.tasks}
    assert sizes == {"short": (5, 8), "long": (6, 8)}  # from the student's 8 features to the expert's
    acting = actor_mimic(beta=0.1).get_multi_rl_module_spec(inference_only=True).build()["student"]
    assert "feature_regressors" not in {name.split(".")[0] for name in acting.get_state(inference_only=True)}
