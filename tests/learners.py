"""What tests of learners share: how to reach them, what they draw, and plain tensors of what they drew."""

import copy

import numpy as np
import torch

from rllib_distill.core.learner import FragmentData
from rllib_distill.env_runner import MultiTaskEnvRunner

STEP = {"num_minibatches": 1, "timesteps": {"num_env_steps_sampled_lifetime": 0}}
STEPS = {**STEP, "num_minibatches": 3}


def from_learners(algo, function):
    """What a function says of every learner."""
    results = list(algo.learner_group.foreach_learner(function))
    for result in results:
        assert result.ok, result.get()
    return [result.get() for result in results]


def learner_of(algo):
    """The learner in this process."""
    (learner,) = from_learners(algo, lambda learner: learner)
    return learner


def num_updates(learner):
    return learner.num_updates


def weights_of(learner):
    """Name -> array, of all modules."""
    return {
        f"{module_id}.{name}": value.detach().cpu().numpy()
        for module_id in learner.module.keys()
        for name, value in learner.module[module_id].state_dict().items()
    }


def is_same(first, second):
    return first.keys() == second.keys() and all(np.array_equal(first[name], second[name]) for name in first)


def optimizers_of(learner):
    """All optimizers, module by module."""
    return [
        optimizer
        for module_id in learner.module.keys()
        for _, optimizer in learner.get_optimizers_for_module(module_id)
    ]


def filled_learner(config, num_timesteps=300):
    """A learner whose replay buffer is filled, and the list of the minibatches that it will have drawn."""
    config.validate()
    learner = config.build_learner()
    runner = MultiTaskEnvRunner(config=config, worker_index=0)
    fragments = runner.sample(num_timesteps=num_timesteps)
    runner.stop()
    for fragment in fragments:  # networks like small numbers
        fragment.frames /= 100.0
        fragment.rewards /= 100.0
    learner.update(training_data=FragmentData([(0, fragments)]))
    drawn = []
    for module_id, minibatches in learner.minibatches.items():
        draw = minibatches.draw

        def remember(draw=draw, module_id=module_id):
            batch = draw()
            drawn.append((module_id, copy.deepcopy(batch)))
            return batch

        minibatches.draw = remember
    return learner, drawn


def learner_and_sample(config, samples=3):
    """A learner, and a minibatch of the last of so many samples that its own weights played."""
    learner = config.build_learner()
    runner = MultiTaskEnvRunner(config=config)
    runner.module.set_state(learner.module.get_state())
    for _ in range(samples - 1):
        runner.sample()
    for fragment in runner.sample():
        learner.store.add(fragment)
    runner.stop()
    return learner, learner.draw_minibatch()


def rows_of(batch, column="observations"):
    """A column of a minibatch of rows, `(N * B, ...)`, task by task."""
    values = batch.observations if column == "observations" else batch.columns[column]
    return values.flatten(0, 2)


def legal_rows(batch):
    """The legal actions of a minibatch's rows, `(N * B, A)`, or None."""
    num_tasks, steps, size = batch.shape
    legal = batch.legal_actions
    return None if legal is None else legal.expand(num_tasks, steps, size, -1).flatten(0, 2)


def masked(values, legal):
    """Values of actions, without the illegal ones."""
    return values if legal is None else values.masked_fill(~legal, -1e30)


def assert_same(module, expected):
    """Two modules have the same weights, but for rounding."""
    parameters = dict(expected.named_parameters())
    for name, parameter in module.named_parameters():
        torch.testing.assert_close(parameter, parameters[name], rtol=1e-4, atol=1e-6)
