import pytest
from ray import tune

from rllib_distill import ActorMimicConfig, register

EXPERT = "tuned_examples/experts/minatar/breakout.safetensors"


@pytest.mark.usefixtures("ray_session")
@pytest.mark.timeout(300)
def test_that_tuner_takes_the_name_a_config_a_sweep_and_paths_of_the_users_folder(tmp_path):
    register()
    config = (
        ActorMimicConfig()
        .multi_task(tasks={"breakout": "MinAtar/Breakout-v1"}, num_envs_per_task=2)
        .experts({"breakout": EXPERT})
        .training(tau=tune.grid_search([0.1, 1.0]), num_steps_per_task_before_learning=32)
        .env_runners(rollout_fragment_length=16)
        .reporting(min_time_s_per_iteration=0)
    )
    run = tune.RunConfig(stop={"training_iteration": 3}, storage_path=str(tmp_path), verbose=0)
    results = tune.Tuner("ActorMimic", param_space=config, run_config=run).fit()
    assert not results.errors
    assert sorted(result.config["tau"] for result in results) == [0.1, 1.0]
    assert all(result.metrics["learners"]["student"]["total_loss"] > 0 for result in results)
