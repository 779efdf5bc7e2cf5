import pytest
from ray import tune

from rllib_distill import ActorMimicConfig, register

EXPERT = "tuned_examples/experts/minatar/breakout.safetensors"


@pytest.mark.usefixtures("ray_session")
def test_that_tuner_takes_a_name_a_config_a_sweep_a_stop_and_paths_of_the_users_folder(tmp_path):
    register()
    config = (
        ActorMimicConfig()
        .multi_task(tasks={"breakout": "MinAtar/Breakout-v1"}, num_envs_per_task=2)
        .experts({"breakout": EXPERT})
        .training(
            tau=tune.grid_search([0.1, 1.0]),
            lr=[["0%", 0.1], ["100%", 0.0]],
            stop={"training_iteration": 4},
            num_steps_sampled_before_learning_starts=32,
        )
        .env_runners(rollout_fragment_length=16)
        .reporting(min_time_s_per_iteration=0)
    )
    run = tune.RunConfig(storage_path=str(tmp_path), verbose=0)  # the config says when to stop
    results = tune.Tuner("ActorMimic", param_space=config, run_config=run).fit()
    assert not results.errors
    assert sorted(result.config["tau"] for result in results) == [0.1, 1.0]
    assert [result.metrics["training_iteration"] for result in results] == [4, 4]
    students = [result.metrics["learners"]["student"] for result in results]
    assert all(student["total_loss"] > 0 for student in students)
    rates = [student["default_optimizer_learning_rate"] for student in students]
    assert rates == pytest.approx([0.025, 0.025])  # when the last iteration began, three quarters were done
