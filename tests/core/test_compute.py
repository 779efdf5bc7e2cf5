"""Mixed precision, compiled networks and the layout of weights: faster, and the same learning."""

import copy
import pickle

import numpy as np
import pytest
import torch
from ray.rllib.core.columns import Columns
from ray.rllib.core.rl_module.torch.torch_compile_config import TorchCompileConfig

from rllib_distill.core.config import MultiTaskConfig, default_network
from rllib_distill.core.learner import FragmentData
from rllib_distill.core.optimizers import lay_out_as_parameters, make_optimizer
from rllib_distill.env_runner.multi_task_env_runner import MultiTaskEnvRunner
from tests.algorithms.test_learner import build

STEP = {"num_minibatches": 3, "timesteps": {"num_env_steps_sampled_lifetime": 0}}


def dtypes_seen(network):
    """The dtypes that the first hidden layer will have computed in."""
    seen = set()
    network.torso.layers[0].register_forward_hook(lambda _, __, output: seen.add(output.dtype))
    return seen


def empty_learner(config):
    config.validate()
    learner = config.get_default_learner_class()(config=config, module_spec=config.get_multi_rl_module_spec())
    learner.build()
    return learner


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
        learner, _ = build(make(mixed_precision=mixed_precision, lr=0.01))
        result = learner.update(**STEP)
        losses[mixed_precision] = [result[m]["total_loss"].peek() for m in learner.module.keys()]
        assert all(p.dtype == torch.float32 for m in learner.module.values() for p in m.parameters())
    assert losses[True] != losses[False]
    np.testing.assert_allclose(losses[True], losses[False], rtol=0.02)


@pytest.mark.parametrize("mixed_precision", [False, True])
def test_that_networks_learn_bootstrap_and_act_in_the_precision_asked_for(dqn, mixed_precision):
    config = dqn(mixed_precision=mixed_precision, double_q=True)
    learner, _ = build(config)
    runner = MultiTaskEnvRunner(config=config, worker_index=0)
    module = learner.module["short"]
    networks = [module.network, module.target_network, runner.module["short"].network]
    seen = [dtypes_seen(network) for network in networks]
    learner.update(**STEP)
    runner.sample(num_timesteps=24)
    assert seen == [{torch.bfloat16 if mixed_precision else torch.float32}] * 3


def test_that_experts_label_in_float32_while_the_student_learns_in_bfloat16(actor_mimic):
    config = actor_mimic(mixed_precision=True)
    config.validate()
    runner = MultiTaskEnvRunner(config=config, worker_index=0)
    seen = {task: dtypes_seen(expert.network) for task, expert in runner.experts.items()}
    runner.sample(num_timesteps=24)
    assert seen == {"short": {torch.float32}, "long": {torch.float32}}


def test_that_mixed_precision_is_true_or_false(dqn, refused):
    assert dqn().mixed_precision is False
    for value in ("bfloat16", 1, None):
        with refused("mixed_precision is", value, "true or false"):
            dqn(mixed_precision=value).validate()
    assert "mixed_precision" in MultiTaskConfig().known_keys()


# -- checkpoints of channels-last weights --------------------------------------------------------------------


@pytest.mark.parametrize("config", [{"type": "adam"}, {"type": "rmsprop"}])
def test_that_an_optimizer_goes_on_from_a_checkpoint_as_if_there_was_none(config):
    weight = torch.randn(6, 3, 4, 4).contiguous(memory_format=torch.channels_last)
    gradients = [torch.randn_like(weight) for _ in range(3)]
    results = []
    for is_restored in (False, True):
        parameter = torch.nn.Parameter(weight.clone())
        optimizer = make_optimizer(config, [parameter], lr=0.1)
        for i, gradient in enumerate(gradients):
            if is_restored and i == 2:
                state = copy.deepcopy(optimizer.state_dict())
                # A checkpoint's numpy arrays know no order in memory but their own.
                kept = state["state"][0]
                state["state"][0] = {name: value.contiguous() for name, value in kept.items()}
                optimizer.load_state_dict(state)
                lay_out_as_parameters(optimizer)
            parameter.grad = gradient.clone()
            optimizer.step()
        results.append(parameter.detach())
    torch.testing.assert_close(results[1], results[0])


def test_that_a_restored_learner_has_its_moments_in_the_weights_order(dqn):
    config = dqn(network=None).multi_task(tasks={"breakout": "MinAtar/Breakout-v1"})
    learner, restored = (empty_learner(config) for _ in range(2))
    learner.update(
        training_data=FragmentData([(0, MultiTaskEnvRunner(config=config, worker_index=0).sample())])
    )
    learner.update(**STEP)
    restored.set_state(pickle.loads(pickle.dumps(learner.get_state())))
    mine, its = (each.get_optimizer("breakout") for each in (learner, restored))
    parameters = its.param_groups[0]["params"]
    assert not all(parameter.is_contiguous() for parameter in parameters)
    for parameter, expected in zip(parameters, mine.state.values(), strict=True):
        for name in ("exp_avg", "exp_avg_sq"):
            assert torch.equal(its.state[parameter][name], expected[name])
            assert its.state[parameter][name].stride() == parameter.stride()


# -- torch.compile -------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_that_compiled_learners_learn_what_others_do(dqn):
    results = {}
    for is_compiled in (False, True):
        learner, _ = build(dqn(lr=0.01).framework(torch_compile_learner=is_compiled))
        learner.update(**STEP)
        result = learner.update(**STEP)
        results[is_compiled] = [result[task]["total_loss"].peek() for task in ("short", "long")]
        for module in learner.module.values():
            networks = (module.network, module.target_network)
            assert [network._compiled_call_impl is not None for network in networks] == [is_compiled] * 2
            assert {name.split(".")[0] for name in module.state_dict()} == {"network", "target_network"}
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
