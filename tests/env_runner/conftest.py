"""Local runners of tiny tasks."""

import pytest
import torch

from rllib_distill.algorithms.actor_mimic import ActorMimicConfig
from rllib_distill.algorithms.multi_task_dqn import MultiTaskDQNConfig
from rllib_distill.env_runner import MultiTaskEnvRunner
from rllib_distill.env_runner.actors import NetworkActor
from rllib_distill.experts import ExpertBank
from tests.env_runner.counting_env import NAMED_TASKS, save_random_experts

NETWORK = {"type": "mlp", "hiddens": [8]}
RECURRENT = {"type": "mlp", "hiddens": [8], "lstm": 4}


@pytest.fixture(scope="session")
def paths(tmp_path_factory):
    return save_random_experts(tmp_path_factory.mktemp("experts"), NAMED_TASKS)


@pytest.fixture(scope="session")
def recurrent_paths(tmp_path_factory):
    network = {"type": "mlp", "hiddens": [6], "lstm": 3}
    return save_random_experts(tmp_path_factory.mktemp("recurrent_experts"), NAMED_TASKS, network=network)


@pytest.fixture
def make_runner(paths):
    """Returns a function that makes a local runner; keyword arguments go to `training`."""

    def make(
        *,
        seed=0,
        behaviour="student",
        dqn=False,
        evaluation_epsilon=0.01,
        evaluating=False,
        network=NETWORK,
        experts=paths,
        **training,
    ):
        if dqn:
            config = MultiTaskDQNConfig().multi_task(tasks=NAMED_TASKS, num_envs_per_task=3)
        else:
            config = ActorMimicConfig().multi_task(tasks=NAMED_TASKS, num_envs_per_task=3)
            config.experts(experts, behaviour=behaviour)
        config.training(network=network, **training).debugging(seed=seed)
        config.evaluation(evaluation_epsilon=evaluation_epsilon)
        config.env_runners(rollout_fragment_length=10, num_env_runners=0)
        config.in_evaluation = evaluating
        return MultiTaskEnvRunner(config=config, worker_index=0)

    return make


@pytest.fixture
def epsilons(monkeypatch):
    """A list that fills with the epsilon of every forward of a network."""
    used, act = [], NetworkActor.__call__

    def call(self, rows, state, epsilon, rng):
        used.append(epsilon)
        return act(self, rows, state, epsilon, rng)

    monkeypatch.setattr(NetworkActor, "__call__", call)
    return used


@pytest.fixture
def loaded(monkeypatch):
    """A list that fills with the experts that are loaded."""
    banks, load = [], ExpertBank.load

    def call(paths, tasks):
        banks.append(load(paths, tasks))
        return banks[-1]

    monkeypatch.setattr(ExpertBank, "load", call)
    return banks


def greedy_by_hand(runner, fragment):
    """Each row's best legal action by a forward of its own, (T, B)."""
    config = runner.config
    module_id = config.policy_mapping_fn(fragment.task, None)
    spaces = config.module_spaces(module_id)
    rows = torch.from_numpy(spaces.pad(fragment.observations[:-1]))
    with torch.no_grad():
        values = runner.module[module_id].network(rows[None], (fragment.task,)).outputs[0].numpy()
    return values[..., spaces.common_actions[fragment.task]].argmax(-1).reshape(fragment.actions.shape)
