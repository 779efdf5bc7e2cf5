"""Mixed precision, compiled networks and a process set up for speed: faster, and the same learning."""

import ctypes
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch._dynamo.config as dynamo_config
from ray.rllib.core.columns import Columns
from ray.rllib.core.rl_module.torch.torch_compile_config import TorchCompileConfig

from rllib_distill import ActorMimicConfig
from rllib_distill.core.config import MultiTaskConfig, default_network
from rllib_distill.env_runner import MultiTaskEnvRunner
from tests.learners import STEPS, filled_learner


def dtypes_seen(network):
    """The dtypes that the first hidden layer will have computed in."""
    seen = set()
    network.torso.layers[0].register_forward_hook(lambda _, __, output: seen.add(output.dtype))
    return seen


@pytest.mark.parametrize(
    ("shape", "network"),
    [
        ((84, 84, 4), "nature_cnn"),
        ((36, 36, 1), "nature_cnn"),
        ((35, 84, 4), "minatar_cnn"),
        ((10, 10, 7), "minatar_cnn"),
        ((128,), "mlp"),
        ((5, 5), "mlp"),
    ],
)
def test_that_the_default_network_fits_the_observations(shape, network):
    assert default_network(shape) == {"type": network}


# -- mixed precision -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ["dqn", "actor_mimic"])
def test_that_the_loss_in_mixed_precision_is_near_that_in_float32(algorithm, request):
    make, losses = request.getfixturevalue(algorithm), {}
    for mixed_precision in (False, True):
        learner, _ = filled_learner(make(mixed_precision=mixed_precision, lr=0.01))
        result = learner.update(**STEPS)
        losses[mixed_precision] = [result[m]["total_loss"].peek() for m in learner.module.keys()]
        assert all(p.dtype == torch.float32 for m in learner.module.values() for p in m.parameters())
    assert losses[True] != losses[False]
    np.testing.assert_allclose(losses[True], losses[False], rtol=0.02)


@pytest.mark.parametrize("mixed_precision", [False, True])
def test_that_networks_learn_bootstrap_and_act_in_the_precision_asked_for(dqn, mixed_precision):
    config = dqn(mixed_precision=mixed_precision, double_q=True)
    learner, _ = filled_learner(config)
    runner = MultiTaskEnvRunner(config=config, worker_index=0)
    module = learner.module["short"]
    networks = [module.network, module.target_network, runner.module["short"].network]
    seen = [dtypes_seen(network) for network in networks]
    learner.update(**STEPS)
    runner.sample(num_timesteps=24)
    assert seen == [{torch.bfloat16 if mixed_precision else torch.float32}] * 3


def test_that_experts_label_in_float32_while_the_student_learns_in_bfloat16(actor_mimic, monkeypatch):
    config = actor_mimic(mixed_precision=True)
    config.validate()
    experts = config.load_experts()
    monkeypatch.setattr(ActorMimicConfig, "load_experts", lambda self: experts)
    runner = MultiTaskEnvRunner(config=config, worker_index=0)
    seen = {task: dtypes_seen(expert.network) for task, expert in experts.items()}
    runner.sample(num_timesteps=24)
    assert seen == {"short": {torch.float32}, "long": {torch.float32}}


def test_that_mixed_precision_is_true_or_false(dqn, refused):
    assert dqn().mixed_precision is False
    for value in ("bfloat16", 1, None):
        with refused("mixed_precision is", value, "true or false"):
            dqn(mixed_precision=value).validate()
    assert "mixed_precision" in MultiTaskConfig().known_keys()


# -- torch.compile -------------------------------------------------------------------------------------------


def wants_to_compile(network, observation_shape):
    """Whether a forward would compile, which is not allowed here."""
    with torch.compiler.set_stance("fail_on_recompile"):
        try:
            network(torch.zeros(1, 1, 1, *observation_shape))
        except RuntimeError:
            return True
    return False


@pytest.mark.slow
def test_that_compiled_learners_learn_what_others_do(dqn):
    results = {}
    for is_compiled in (False, True):
        learner, _ = filled_learner(dqn(lr=0.01).framework(torch_compile_learner=is_compiled))
        for module in learner.module.values():
            for network in (module.network, module.target_network):
                assert wants_to_compile(network, module.observation_space.shape) == is_compiled
            assert {name.split(".")[0] for name in module.state_dict()} == {"network", "target_network"}
        learner.update(**STEPS)
        result = learner.update(**STEPS)
        results[is_compiled] = [result[task]["total_loss"].peek() for task in ("short", "long")]
    np.testing.assert_allclose(results[True], results[False], rtol=1e-4)


def test_that_a_compiled_module_acts_like_itself(dqn):
    module = dqn().get_multi_rl_module_spec(inference_only=True).build()["long"]
    batch = {Columns.OBS: torch.rand(7, *module.observation_space.shape)}
    expected = module.forward_inference(batch)[Columns.ACTION_DIST_INPUTS]
    calls = []

    def backend(graph, _):
        calls.append(graph)
        return graph

    module.compile(TorchCompileConfig(torch_dynamo_backend=backend))
    with torch.inference_mode():
        for _ in range(2):
            outputs = module.forward_inference(batch)[Columns.ACTION_DIST_INPUTS]
            torch.testing.assert_close(outputs, expected)
    assert len(calls) == 1


# -- a process set up for speed ------------------------------------------------------------------------------


@pytest.fixture
def asked_of_libc(monkeypatch):
    """What the C library was asked for; torch's settings are as in a new process, and put back."""
    asked = []
    libc = SimpleNamespace(mallopt=lambda parameter, value: asked.append((parameter, value)))
    monkeypatch.setattr(ctypes, "CDLL", lambda name: libc)
    monkeypatch.setattr(torch.utils.deterministic, "fill_uninitialized_memory", True)
    with dynamo_config.patch(recompile_limit=8):
        yield asked


@pytest.mark.parametrize("is_compiled", [False, True])
@pytest.mark.parametrize(
    "build",
    [lambda config: config.build_learner(), lambda config: MultiTaskEnvRunner(config=config)],
    ids=["learner", "runner"],
)
def test_that_a_process_is_set_up_unless_the_config_says_no(dqn, asked_of_libc, build, is_compiled):
    config = dqn(tune_process=False)
    config.framework(torch_compile_learner=is_compiled, torch_compile_worker=is_compiled)
    build(config.copy())
    assert torch.utils.deterministic.fill_uninitialized_memory
    assert not asked_of_libc and dynamo_config.recompile_limit == 8
    build(config.training(tune_process=True))
    assert not torch.utils.deterministic.fill_uninitialized_memory
    assert len(asked_of_libc) == 2
    assert (dynamo_config.recompile_limit > 8) == is_compiled


def test_that_processes_are_set_up_by_default(dqn):
    assert dqn().tune_process is True
