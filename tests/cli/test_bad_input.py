"""Each mistake ends with one line, exit code 2 and nothing written."""

import pytest
import ray


@pytest.fixture
def refused(rllib, tmp_path):
    """Returns a function that checks how a command is refused."""

    def refused(arguments, *parts):
        before = sorted(tmp_path.rglob("*"))
        started = ray.is_initialized()
        outcome = rllib(*arguments)
        assert outcome.code == 2
        assert outcome.err.startswith("error: ") and outcome.err.count("\n") == 1, outcome.err
        assert all(part in outcome.err for part in parts), outcome.err
        assert sorted(tmp_path.rglob("*")) == before
        assert ray.is_initialized() == started

    return refused


WRONG_CONFIG = {  # tests/core/test_bad_config.py has more
    "unknown key": ({"taau": 1.0}, "'taau'", "'tau'"),
    "a number as text": ({"tau": "one"}, "tau", "'one'", "number"),
    "1e-3, which YAML takes for text": ({"lr": "1e-3"}, "lr", "0.001"),
    "another task's expert": ({"experts": {"pole": "experts/acrobot.safetensors"}}, "'pole'", "(6,)"),
    "one bad point of a grid": ({"tau": {"grid_search": [1.0, -2.0]}}, "tau", "-2.0"),
    "more processes than CPUs": ({"num_env_runners": 20}, "21 CPUs", "--ray-num-cpus"),
    "more GPUs than there are": ({"num_learners": 1, "num_gpus_per_learner": 64}, "64 GPUs"),
    "a key that is no text": ({5: 1}, "5", "text"),
}


@pytest.mark.parametrize("case", WRONG_CONFIG)
def test_that_a_wrong_config_is_refused(case, refused, write_file, mimic):
    changes, *parts = WRONG_CONFIG[case]
    mimic["config"] |= changes
    refused(["train", "file", write_file({"my-mimic": mimic}), "--ray-num-cpus", "2"], "'my-mimic'", *parts)


WRONG_EXPERIMENT = {
    "unknown key": ({"stopp": {}}, "'stopp'", "'stop'"),
    "unknown algorithm": ({"run": "ActorMimik"}, "'ActorMimik'", "'ActorMimic'"),
    "an algorithm of a module that is not there": ({"run": "my_algos:Mine"}, "'my_algos'", "PYTHONPATH"),
    "a loss instead of an algorithm": ({"run": "rllib_distill.losses:td_loss"}, "td_loss", "class"),
    "old key": ({"local_dir": "x"}, "local_dir", "storage_path"),
    "unknown stop key": ({"stop": {"trainig_iteration": 3}}, "trainig_iteration", "training_iteration"),
    "stop at a text": ({"stop": {"num_env_steps_sampled_lifetime": "1e6"}}, "1000000.0"),
    "stop that is no mapping": ({"stop": 5}, "stop", "mapping"),
    "config that is no mapping": ({"config": [1]}, "config", "mapping"),
    "no samples": ({"num_samples": 0}, "num_samples"),
    "unknown checkpoint key": (
        {"checkpoint_config": {"frequency": 3}},
        "'frequency'",
        "checkpoint_frequency",
    ),
    "wrong checkpoint value": ({"checkpoint_config": {"num_to_keep": -3}}, "checkpoint_config", "-3"),
    "unknown report key": ({"report": {"episode": 3}}, "'episode'", "'episodes'"),
    "wrong epsilon of a report": ({"report": {"epsilon": 2}}, "epsilon"),
    "no steps of a report": ({"report": {"steps": 0}}, "steps is 0"),
    "two amounts of a report": ({"report": {"steps": 5, "episodes": 3}}, "either"),
    "one expected number": ({"report": {"expected": 0.9}}, "[0.9, 1.0]"),
    "expected the wrong way round": ({"report": {"expected": [1.0, 0.9]}}, "lowest"),
    "expected of no student": (
        {"run": "MultiTaskDQN", "report": {"expected": [0.9, 1.0]}},
        "MultiTaskDQN has no student",
    ),
    "a stop inside the config": ({"config": {"stop": {"training_iteration": 9}}}, "beside config"),
    "restoring from nothing": ({"restore": "gone"}, "gone", "checkpoint"),
    "results below a file": ({"storage_path": "experiments.yaml/x"}, "experiments.yaml/x"),
}


@pytest.mark.parametrize("case", WRONG_EXPERIMENT)
def test_that_a_wrong_experiment_is_refused(case, refused, write_file, mimic):
    changes, *parts = WRONG_EXPERIMENT[case]
    refused(["train", "-f", write_file({"m": mimic | changes})], *parts)


WRONG_FILE = {
    "a list": ("- a\n- b\n", "list"),
    "nothing": ("", "empty"),
    "no YAML": ("a: [1\n", "YAML"),
    "a key twice": ("a: {run: PPO, run: DQN}\n", "'run'", "twice"),
    "no experiment names": ("run: ActorMimic\n", "name"),
    "an experiment that is no mapping": ("a: 3\n", "'a'", "mapping"),
    "an experiment without algorithm": ("a: {}\n", "'run'", "missing"),
}


@pytest.mark.parametrize("case", WRONG_FILE)
def test_that_a_wrong_file_is_refused(case, refused, write_file):
    text, *parts = WRONG_FILE[case]
    refused(["train", "file", write_file(text)], *parts)


WRONG_FLAGS = {
    "no file": (["train", "file", "gone.yaml"], "gone.yaml"),
    "nothing to train": (["train"], "--run"),
    "unknown flag": (["train", "--bogus"], "--bogus"),
    "a flag that is gone": (["train", "--local-dir=x"], "--storage-path"),
    "its negation": (["train", "--no-render"], "--render", "render_mode"),
    "config that is no JSON": (["train", "--run", "ActorMimic", "--config", "{"], "--config", "JSON"),
    "config that is no mapping": (["train", "--run", "ActorMimic", "--config", "[1]"], "--config", "mapping"),
    "words after train": (["train", "files", "a.yaml"], "train file"),
    "unknown command": (["tain"], "tain"),
    "no checkpoint": (["evaluate", "gone"], "gone"),
    "no episodes": (["evaluate", ".", "--episodes", "0"], "--episodes"),
    "no steps": (["evaluate", ".", "--steps", "0"], "--steps"),
    "steps that are no number": (["evaluate", ".", "--steps", "many"], "--steps"),
    "two amounts": (
        ["evaluate", ".", "--steps=5", "--episodes=3"],
        "--episodes is 3",
        "--steps is 5",
        "only",
    ),
    "epsilon above 1": (["evaluate", ".", "--epsilon", "1.5"], "--epsilon"),
    "scores in a picture": (["evaluate", ".", "--out", "x.png"], "x.png", ".json"),
}


@pytest.mark.parametrize("case", WRONG_FLAGS)
def test_that_wrong_flags_are_refused(case, refused):
    arguments, *parts = WRONG_FLAGS[case]
    refused(arguments, *parts)


WRONG_FLAGS_WITH_A_FILE = {
    "another algorithm": (["--run", "ActorMimic"], "--run"),
    "an experiment that is not there": (["-n", "dpn"], "'dpn'", "'dqn'"),
    "nothing to resume": (["--resume"], "resume"),
    "unknown scheduler": (["--scheduler", "FIFA"], "FIFA"),
    "a scheduler's options": (["--scheduler", "asha", "--scheduler-config", '{"mode": "up"}'], "asha"),
}


@pytest.mark.parametrize("case", WRONG_FLAGS_WITH_A_FILE)
def test_that_flags_that_do_not_fit_the_file_are_refused(case, refused, write_file, dqn):
    flags, *parts = WRONG_FLAGS_WITH_A_FILE[case]
    refused(["train", "file", write_file({"dqn": dqn}), *flags], *parts)


def test_that_a_trials_folder_is_told_from_its_checkpoint(refused, tmp_path):
    (tmp_path / "trial" / "checkpoint_000000").mkdir(parents=True)
    refused(["evaluate", "trial"], "its checkpoint is trial/checkpoint_000000")


def test_that_experiments_of_one_file_need_one_folder(refused, write_file, dqn):
    file = write_file({"a": dqn | {"storage_path": "x"}, "b": dqn | {"storage_path": "y"}})
    refused(["train", "file", file], "storage_path", "-n NAME")


def test_that_stock_algorithms_keys_are_checked_too(refused):
    refused(
        ["train", "--run", "PPO", "--env", "CartPole-v1", "--config", '{"gama": 0.9}'], "'gama'", "'gamma'"
    )
