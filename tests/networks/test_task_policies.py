"""Distral's columns: what each parameterization makes of which network, for all tasks and for some."""

import pytest
import torch

from rllib_distill.errors import DistillError
from rllib_distill.networks import StackedNetworks, TaskPolicies, build_network, scale_outputs

TASKS = ("pong", "qbert", "free.way")
ALPHA = {"pong": 0.5, "qbert": 0.8, "free.way": 0.0}
BETA = {"pong": 2.0, "qbert": 1.0, "free.way": 0.5}
MLP = {"type": "mlp", "hiddens": [8, 5]}
MEMORY = MLP | {"lstm": 6}
SHAPE = (3,)
T, B, A = 4, 2, 5


def network(actions=A, config=MLP, num_values=1):
    return build_network(config, SHAPE, actions, num_values=num_values)


def policies(parameterization, config=MLP, distilled_config=None, **changes):
    """Task policies, and the networks they were made of."""
    shared = parameterization == "shared"
    given = {
        "tasks": TASKS,
        "distilled": network(config=distilled_config or config, num_values=len(TASKS) if shared else 0),
        "task_networks": {} if shared else {task: network(config=config) for task in TASKS},
        "parameterization": parameterization,
        "column_alpha": ALPHA,
        "column_beta": BETA,
    }
    given |= changes
    return TaskPolicies(**given), given["distilled"], given["task_networks"]


def rows(state_size, tasks=TASKS):
    n = len(tasks)
    return torch.randn(n, T, B, *SHAPE), tasks, torch.randn(n, B, state_size), torch.rand(n, T, B) < 0.3


def of_task(network, n, observations, state, is_first):
    return network(observations[n][None], None, state[n][None], is_first[n][None])


subsets = pytest.mark.parametrize("tasks", [TASKS, ("free.way", "pong"), ("qbert",)])


@subsets
@pytest.mark.parametrize(
    ("config", "distilled_config", "state_size"),
    [(MLP, MLP, 0), (MEMORY, MEMORY, 24), (MLP, MEMORY, 12), (MEMORY, MLP, 12)],
)
@pytest.mark.parametrize("parameterization", ["one_column", "two_column"])
def test_each_tasks_rows_go_through_its_own_network_and_the_distilled_one(
    tasks, config, distilled_config, state_size, parameterization
):
    together, distilled, networks = policies(parameterization, config, distilled_config)
    assert together.state_size == state_size
    observations, _, state, is_first = given = rows(state_size, tasks)
    outputs = together(*given)
    distilled_state, task_state = state.split([distilled.state_size, state_size - distilled.state_size], -1)
    for n, task in enumerate(tasks):
        h = of_task(distilled, n, observations, distilled_state, is_first)
        own = of_task(networks[task], n, observations, task_state, is_first)
        alpha = ALPHA[task] if parameterization == "two_column" else 0.0
        logits = alpha * h.outputs + BETA[task] * own.outputs
        torch.testing.assert_close(outputs.logits[n], logits[0])
        torch.testing.assert_close(outputs.distilled_logits[n], h.outputs[0])
        torch.testing.assert_close(outputs.task_outputs[n], own.outputs[0])
        torch.testing.assert_close(outputs.values[n], own.values[0, ..., 0])
        torch.testing.assert_close(outputs.states[n], torch.cat([h.states, own.states], -1)[0])


@subsets
@pytest.mark.parametrize("config", [MLP, MEMORY])
def test_shared_all_have_the_distilled_policy_and_values_of_their_own(tasks, config):
    together, distilled, _ = policies("shared", config)
    observations, _, state, is_first = given = rows(together.state_size, tasks)
    outputs = together(*given)
    expected = distilled(observations, None, state, is_first)
    assert torch.equal(outputs.logits, expected.outputs) and torch.equal(outputs.states, expected.states)
    assert torch.equal(outputs.distilled_logits, outputs.logits) and outputs.task_outputs is None
    for n, task in enumerate(tasks):
        assert torch.equal(outputs.values[n], expected.values[n, ..., TASKS.index(task)])


@pytest.mark.parametrize("parameterization", ["one_column", "two_column", "shared"])
def test_the_distilled_networks_torso_runs_once_on_all_rows(parameterization):
    together, distilled, _ = policies(parameterization, MEMORY)
    seen = []
    distilled.torso.register_forward_hook(lambda _, args, output: seen.append(len(output)))
    together(*rows(together.state_size))
    assert seen == [len(TASKS) * T * B]
    together.distilled_only(*rows(together.state_size))
    assert seen == [len(TASKS) * T * B] * 2


def test_two_columns_start_as_the_distilled_policy_to_the_power_of_alpha():
    together, _, networks = policies("two_column")
    for own in networks.values():
        scale_outputs(own, 0.0)
    outputs = together(*rows(0))
    powers = outputs.distilled_logits.softmax(-1) ** torch.tensor(list(ALPHA.values())).view(-1, 1, 1, 1)
    expected = powers / powers.sum(-1, keepdim=True)
    torch.testing.assert_close(outputs.logits.softmax(-1), expected)
    torch.testing.assert_close(expected[2], torch.full((T, B, A), 1 / A))  # alpha = 0: uniform


def test_a_tasks_logits_move_the_distilled_network_by_alpha_with_two_columns_and_not_with_one():
    for parameterization in ("one_column", "two_column"):
        together, distilled, networks = policies(parameterization)
        together(*rows(0)).logits[:2, ..., 0].sum().backward()
        reached = {task for task in TASKS if networks[task].head.weight.grad.any()}
        assert reached == {"pong", "qbert"}
        if parameterization == "one_column":
            assert all(p.grad is None for p in distilled.parameters())
        else:  # each row of a task adds its alpha to the gradient of the first action's bias
            expected = torch.tensor([(0.5 + 0.8) * T * B, 0.0, 0.0, 0.0, 0.0])
            torch.testing.assert_close(distilled.head.bias.grad, expected)


def test_tasks_that_learn_separately_have_no_distilled_policy():
    together, _, networks = policies("one_column", MEMORY, distilled=None)
    assert together.state_size == 12
    observations, _, state, is_first = given = rows(12)
    outputs = together(*given)
    expected = StackedNetworks(list(networks.values()))(observations, state, is_first)
    assert outputs.distilled_logits is None and torch.equal(outputs.task_outputs, expected.outputs)
    assert torch.equal(outputs.logits[0], 2.0 * expected.outputs[0])
    assert torch.equal(outputs.states, expected.states)
    with pytest.raises(DistillError, match=r"no distilled policy.*separately"):
        together.distilled_only(*given)


@subsets
@pytest.mark.parametrize("parameterization", ["one_column", "two_column", "shared"])
def test_the_distilled_policy_alone_is_that_of_the_tasks_outputs(parameterization, tasks):
    together, _, _ = policies(parameterization, MEMORY)
    given = rows(together.state_size, tasks)
    outputs, both = together.distilled_only(*given), together(*given)
    assert torch.equal(outputs.logits, both.distilled_logits)
    assert torch.equal(outputs.distilled_logits, both.distilled_logits)
    assert outputs.task_outputs is None and outputs.values.shape == (len(tasks), T, B)
    assert outputs.states.shape == both.states.shape
    assert torch.equal(outputs.states[..., :12], both.states[..., :12])
    assert torch.equal(outputs.states[..., 12:], given[2][:, None, :, 12:].expand(-1, T, -1, -1))


def test_networks_without_values_have_zeros():
    networks = {task: network(num_values=0) for task in TASKS}
    together, _, _ = policies("two_column", task_networks=networks)
    assert torch.equal(together(*rows(0)).values, torch.zeros(len(TASKS), T, B))


@torch.no_grad()
def test_other_tasks_between_two_calls_change_nothing_and_new_weights_are_seen():
    together, _, networks = policies("two_column")
    every, some = rows(0), rows(0, ("qbert", "pong"))
    before = together(*every).logits, together(*some).logits
    assert torch.equal(together(*every).logits, before[0])
    networks["qbert"].head.bias.add_(1.0)
    torch.testing.assert_close(together(*some).logits[0], before[1][0] + 1.0)
    torch.testing.assert_close(together(*every).logits[1], before[0][1] + 1.0)
    assert torch.equal(together(*every).logits[0], before[0][0])


EACH = {task: network() for task in TASKS}
OTHERS = EACH | {"qbert": network(4)}


@pytest.mark.parametrize(
    ("parameterization", "changes", "says"),
    [
        ("two_columns", {"task_networks": EACH}, "'two_columns'. Did you mean 'two_column'"),
        ("two_column", {"distilled": None}, "'two_column' needs a distilled policy.*'one_column'"),
        ("shared", {"distilled": None}, "'shared' needs a distilled policy"),
        ("shared", {"task_networks": EACH}, "'shared' has no networks of the tasks; got some for pong"),
        ("shared", {"distilled": network()}, "by 3 tasks.*num_values is 1.*num_values=3"),
        ("one_column", {"task_networks": {"pong": network()}}, "one network per task.*got those of pong"),
        ("one_column", {"task_networks": EACH | {"x": network()}}, "one network per task.*free.way, x"),
        ("two_column", {"column_alpha": {}}, "one alpha per task.*got those of none"),
        ("one_column", {"tasks": (), "task_networks": {}}, "at least one task"),
        ("one_column", {"distilled": network(6)}, "distilled network has 6 and that of .* 'pong' has 5"),
        (
            "one_column",
            {"task_networks": OTHERS, "distilled": None},
            "is 5 in that of 'pong' and 4 in .*'qbert'",
        ),
    ],
)
def test_networks_that_do_not_fit_together_end_in_one_line(parameterization, changes, says):
    with pytest.raises(DistillError, match=says) as error:
        policies(parameterization, **changes)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("method", ["__call__", "distilled_only"])
def test_rows_of_unknown_tasks_or_of_too_few_are_refused(method):
    together, _, _ = policies("two_column")
    observations, _, state, is_first = rows(0)
    with pytest.raises(DistillError, match=r"no policy for the task 'pomg'. Did you mean 'pong'"):
        getattr(together, method)(observations, ("pomg", "qbert", "pong"), state, is_first)
    with pytest.raises(DistillError, match=r"as many tasks as are named; got 3 and \('pong',\)"):
        getattr(together, method)(observations, ("pong",), state, is_first)
