"""Local runners of tiny tasks."""

import pytest
import torch

from rllib_distill.env_runner import MultiTaskEnvRunner
from tests.configs import actor_mimic, bank, dqn, epsilons, on_policy, online, paths
from tests.env_runner.counting_env import return_of

__all__ = ["actor_mimic", "bank", "dqn", "epsilons", "on_policy", "online", "paths"]


@pytest.fixture
def make_runner(request):
    """Returns a function that makes a local runner.

    It takes the name of a fixture of `tests.configs`; further keyword arguments go to `training`.
    """

    def make(
        config="actor_mimic",
        *,
        seed=0,
        behaviour="student",
        evaluation_epsilon=0.01,
        evaluating=False,
        **training,
    ):
        made = request.getfixturevalue(config)(**training).debugging(seed=seed)
        made.evaluation(evaluation_epsilon=evaluation_epsilon)
        if config != "dqn":
            made.experts(behaviour=behaviour)
        made.in_evaluation = evaluating
        return MultiTaskEnvRunner(config=made, worker_index=0)

    return make


def greedy_by_hand(runner, fragment):
    """Each row's best legal action by a forward of its own, (T, B)."""
    config = runner.config
    module_id = config.policy_mapping_fn(fragment.task, None)
    spaces = config.module_spaces(module_id)
    rows = torch.from_numpy(spaces.pad(fragment.observations[:-1]))
    with torch.no_grad():
        values = runner.module[module_id].network(rows[None], (fragment.task,)).outputs[0].numpy()
    return values[..., spaces.common_actions[fragment.task]].argmax(-1).reshape(fragment.actions.shape)


def returns_in(fragment):
    """Of the episodes that ended in it."""
    ended = fragment.observations[:-1][fragment.terminations | fragment.truncations]
    return [return_of(int(episode), int(step) + 1) for _, episode, step in ended[:, :3]]


def read(metrics):
    """A function of keys that returns a metric's value."""

    def value(*keys):
        found = metrics
        for key in keys:
            found = found[key]
        return found.peek()

    return value
