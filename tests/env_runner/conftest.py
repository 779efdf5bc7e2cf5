"""Local runners of tiny tasks."""

import pytest

from rllib_distill.algorithms.actor_mimic import ActorMimicConfig
from rllib_distill.algorithms.multi_task_dqn import MultiTaskDQNConfig
from rllib_distill.env_runner.multi_task_env_runner import MultiTaskEnvRunner
from tests.env_runner.counting_env import NAMED_TASKS, save_random_experts

NETWORK = {"type": "mlp", "hiddens": [8]}


@pytest.fixture(scope="session")
def paths(tmp_path_factory):
    return save_random_experts(tmp_path_factory.mktemp("experts"), NAMED_TASKS)


@pytest.fixture
def make_runner(paths):
    """Returns a function that makes a local runner; keyword arguments go to `training`."""

    def make(
        *, seed=0, behaviour="student", dqn=False, evaluation_epsilon=0.01, evaluating=False, **training
    ):
        if dqn:
            config = MultiTaskDQNConfig().multi_task(tasks=NAMED_TASKS, num_envs_per_task=3)
        else:
            config = ActorMimicConfig().multi_task(tasks=NAMED_TASKS, num_envs_per_task=3)
            config.experts(paths, behaviour=behaviour)
        config.training(network=NETWORK, **training).debugging(seed=seed)
        config.evaluation(evaluation_epsilon=evaluation_epsilon)
        config.env_runners(rollout_fragment_length=10, num_env_runners=0)
        config.in_evaluation = evaluating
        return MultiTaskEnvRunner(config=config, worker_index=0)

    return make
