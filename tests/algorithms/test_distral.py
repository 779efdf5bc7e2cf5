"""Distral as a user runs it: training, evaluation, checkpoints, a head start, several processes."""

import shutil

import numpy as np
import pytest
import torch

from rllib_distill import Distral
from rllib_distill.env_runner.actors import Acting
from rllib_distill.env_runner.task_envs import make_task_envs
from rllib_distill.errors import DistillError
from rllib_distill.evaluation.play import TrainedPolicies
from rllib_distill.tasks.two_rooms import TwoRoomsEnv
from tests.algorithms.distral_tasks import TASKS, distral, soft_q, tabular
from tests.learners import learner_and_sample

pytestmark = pytest.mark.usefixtures("ray_session")
LSTM = {"type": "mlp", "hiddens": [8], "lstm": 4}


def trained(config, iterations=3):
    algo = config.build_algo()
    results = [algo.train() for _ in range(iterations)]
    return algo, results[-1]


@pytest.mark.parametrize("variant", ["kl_ent_1col", "kl_ent_2col"])
def test_that_new_tasks_start_from_a_distilled_policy(variant, tmp_path):
    algo, _ = trained(distral(variant))
    saved = algo.save_to_path(str(tmp_path))
    distilled = algo.module_weights()["distilled"]
    algo.stop()
    new = {"far": {**TASKS["right"], "env_config": {**TASKS["right"]["env_config"], "task": 3}}}
    started = distral(variant, tasks=new, init_from=saved).build_algo()
    modules = started.module_weights()
    assert all((modules["distilled"][name] == distilled[name]).all() for name in distilled)
    head = np.asarray(modules["far"]["network.head.weight"])
    if variant == "kl_ent_1col":
        assert (head == np.asarray(distilled["network.head.weight"])).all()
    else:
        np.testing.assert_allclose(head, 0.5 * np.asarray(distilled["network.head.weight"]))
    started.train()
    again = started.save_to_path(str(tmp_path / "again"))
    started.stop()
    with pytest.raises(DistillError, match="another network"):
        distral(variant, tasks=new, network={"type": "mlp", "hiddens": [9]}, init_from=saved).validate()
    with pytest.raises(DistillError, match=r"folder of a trial; its checkpoint is .*checkpoint_000000"):
        (tmp_path / "trial" / "checkpoint_000000").mkdir(parents=True)
        distral(variant, tasks=new, init_from=tmp_path / "trial").validate()
    shutil.rmtree(saved + "/learner_group/learner/rl_module/distilled")
    with pytest.raises(DistillError, match="checkpoint without a distilled policy"):
        distral(variant, tasks=new, init_from=saved).validate()
    shutil.rmtree(saved + "/learner_group")  # a checkpoint needs nothing of what it started from
    Distral.from_checkpoint(again).stop()
    TrainedPolicies(again).config.validate()


def test_that_task_policies_start_as_the_distilled_policy(tmp_path):
    algo, _ = trained(distral("kl_ent_2col"))
    saved = algo.save_to_path(str(tmp_path))
    algo.stop()
    config = distral("kl_ent_2col", tasks=TASKS, init_from=saved, alpha={"left": 0.3, "right": 1.0})
    learner, batch = learner_and_sample(config)
    outputs = learner.module.forward_train(batch)
    torch.testing.assert_close(outputs.logits, outputs.distilled_logits)
    learner, batch = learner_and_sample(soft_q(tasks=TASKS, init_from=saved))
    outputs = learner.module.forward_train(batch)
    assert outputs.distilled_logits.any() and not outputs.task_outputs.any()  # no Q-values are logits


def test_that_a_checkpoints_policies_act(tmp_path):
    config = distral("kl_ent_2col", network=LSTM)
    algo, _ = trained(config, iterations=1)
    saved = algo.save_to_path(str(tmp_path))
    algo.stop()
    envs = make_task_envs(config.task_set, 5, seed=0)
    for who in ("policy", "distilled"):
        acting = Acting(TrainedPolicies(saved).actor(who), envs)
        before = {task: state.clone() for task, state in acting.state.items()}
        actions = acting(envs, 0.0, np.random.default_rng(0)).actions
        assert {task: chosen.shape for task, chosen in actions.items()} == dict.fromkeys(TASKS, (5,))
        assert all((acting.state[task] != before[task]).any() for task in TASKS)


@pytest.mark.slow
def test_that_the_distilled_policy_keeps_its_direction_in_the_corridor():
    tasks = {
        f"goal_{i}": {"env": "rllib_distill/TwoRooms-v0", "env_config": {"task": i, "observation": "state"}}
        for i in range(4)
    }
    config = (
        tabular(
            alpha=1.0,
            train_batch_size_per_learner=4000,
            training_intensity=1.0,
            replay_capacity=1000,
            num_steps_sampled_before_learning_starts=1000,
            target_network_update_freq=1,
        )
        .multi_task(tasks=tasks, num_envs_per_task=10)
        .env_runners(rollout_fragment_length=100)
    )
    algo, result = trained(config, iterations=70)
    assert (
        np.mean(list(result["env_runners"]["agent_episode_returns_mean"].values())) > 0.2
    )  # the optimum: 0.37
    table = np.asarray(algo.module_weights()["distilled"]["network.head.weight"])
    algo.stop()
    rooms = TwoRoomsEnv(observation="state").map
    right, left = rooms_action("right"), rooms_action("left")
    for came, back in ((right, left), (left, right)):
        for state in rooms.corridor_states(came):
            logits = table[:, state]
            assert logits[came] - logits[back] > np.log(5.0)


def rooms_action(name):
    return [meaning.lower() for meaning in TwoRoomsEnv().get_action_meanings()].index(name)
