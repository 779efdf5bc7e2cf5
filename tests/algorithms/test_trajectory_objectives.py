"""The gradients of kickstarting and of expected entropy regularised distillation, against enumeration.

The world is a tree of three binary decisions, so that a batch can hold every trajectory as often as whoever
acted would have played it, and its mean is an expectation.
"""

from functools import partial
from itertools import product

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete

from rllib_distill.algorithms.policy_distillation import PolicyDistillationConfig
from rllib_distill.experts import Expert
from rllib_distill.replay import Batch
from tests.env_runner.counting_env import save_random_experts
from tests.learners import from_learners

DEPTH, STATES = 3, 15
BEHAVIOUR = np.array([0.25, 0.5, 0.75, 0.75, 0.25, 0.5, 0.25])  # mu(action 0) in each inner state
MU = np.stack([BEHAVIOUR, 1 - BEHAVIOUR], 1)
REWARDS = np.random.default_rng(1).normal(size=(7, 2)).round(1)
TAU, IMITATION = 0.7, 0.6


class Tree(gym.Env):
    """Action a in state s leads to 2 s + 1 + a; after three of them the episode ends."""

    observation_space, action_space = Box(0.0, 1.0, (STATES,), np.float32), Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.state = 0
        return np.eye(STATES, dtype=np.float32)[0], {}

    def step(self, action):
        reward, self.state = REWARDS[self.state, action], 2 * self.state + 1 + int(action)
        return np.eye(STATES, dtype=np.float32)[self.state], reward, self.state >= 7, False, {}


TRAJECTORIES = []  # of (state, action) pairs
for actions in product((0, 1), repeat=DEPTH):
    states = [0]
    for action in actions:
        states.append(2 * states[-1] + 1 + action)
    TRAJECTORIES.append(list(zip(states, actions, strict=False)))


def config_of(tmp_path, objective, rl_coeff, **settings):
    """A config, and the expert's Q-values `(STATES, 2)`."""
    tasks = {"tree": {"env": Tree}}
    paths = save_random_experts(tmp_path, tasks, network={"type": "linear"})
    expert = Expert.load(paths["tree"])
    weights = {name: 5 * value for name, value in expert.network.state_dict().items()}
    Expert(expert.info, weights).save(paths["tree"])  # those of a random network are nearly equal
    config = (
        PolicyDistillationConfig()
        .multi_task(tasks=tasks, num_envs_per_task=2)
        .experts(paths, behaviour="student")
        .training(objective=objective, network={"type": "linear"}, epsilon=0.0, gamma=1.0, tau=TAU)
        .training(rl_coeff=rl_coeff, imitation_coeff=IMITATION, **settings)
        .debugging(seed=0)
    )
    labels = config.load_experts().label("tree", np.eye(STATES, dtype=np.float32)[None])
    return config, torch.from_numpy(labels.outputs[0]).double()


def learner_of(*args, **settings):
    config, expert_q = config_of(*args, **settings)
    learner = config.build_learner()
    learner.imitation_coeffs = {"tree": IMITATION}  # as the driver tells with every update
    return learner, expert_q


def batch_of_all(expert_q):
    """Every trajectory as often as `BEHAVIOUR` plays it in 64 episodes."""
    columns = []
    for trajectory in TRAJECTORIES:
        probability = np.prod([abs(action - BEHAVIOUR[state]) for state, action in trajectory])
        columns += [trajectory] * round(64 * probability)
    assert len(columns) == 64
    states = torch.tensor([[s for s, _ in column] + [0] for column in columns]).T[None]
    actions = torch.tensor([[a for _, a in column] for column in columns]).T[None]
    inner = states[:, :-1]
    mu = torch.from_numpy(BEHAVIOUR)[inner]
    ends = torch.zeros_like(actions, dtype=torch.bool)
    ends[:, -1] = True
    is_first = torch.zeros_like(states, dtype=torch.bool)
    is_first[:, [0, -1]] = True
    return Batch(
        tasks=("tree",),
        observations=torch.eye(STATES)[states],
        columns={
            "actions": actions,
            "rewards": torch.from_numpy(REWARDS)[inner, actions].float(),
            "terminations": ends,
            "truncations": torch.zeros_like(ends),
            "valid": torch.ones_like(ends),
            "expert_outputs": expert_q[inner].float(),
            "behaviour_log_probs": torch.where(actions == 0, mu, 1 - mu).log().float(),
        },
        state=torch.zeros(1, 64, 0),
        is_first=is_first,
    )


def gradients(learner, batch):
    """Of the learner's loss, summed over steps, at the head's weights and bias."""
    module = learner.module["student"]
    module.zero_grad()
    batches = {"student": batch}
    losses = learner.compute_losses(fwd_out=learner.module.forward_train(batches), batch=batches)
    (DEPTH * losses["student"]).backward()
    head = module.network.head
    return head.weight.grad.double(), head.bias.grad.double()


def set_policy(learner, logits, values):
    """`logits` `(STATES, 2)` and `values` `(STATES,)`."""
    network = learner.module["student"].network
    with torch.no_grad():
        network.head.weight.copy_(torch.as_tensor(logits).T)
        network.head.bias.zero_()
        network.value_head.weight.copy_(torch.as_tensor(values)[None])
        network.value_head.bias.zero_()


def parameters_of(learner):
    head = learner.module["student"].network.head
    return [p.detach().double().requires_grad_() for p in (head.weight, head.bias)]


def log_policy(weight, bias):
    return torch.log_softmax(weight.T + bias, -1)


def step_rewards(expert_q, objective, rl_coeff):
    """`(STATES, 2)`: what an action in a state is worth at once, in the objective."""
    rewards = torch.zeros(STATES, 2, dtype=torch.double)
    rewards[:7] = rl_coeff * torch.from_numpy(REWARDS)
    if objective == "expected_entropy_regularised":
        rewards = rewards + IMITATION * torch.log_softmax(expert_q / TAU, -1)
    return rewards


def cross_entropy_on_states(log_pi, expert_q, weights):
    """What kickstarting adds: the cross entropy to the expert, the states' distribution being given."""
    expert = torch.softmax(expert_q / TAU, -1)
    return IMITATION * (weights * -(expert * log_pi).sum(-1)).sum()


def visits(behaviour):
    """`(STATES,)`: how often each state is visited in an episode, acting by `behaviour` `(7, 2)`."""
    often = torch.zeros(STATES, dtype=torch.double)
    for trajectory in TRAJECTORIES:
        probability = np.prod([behaviour[s, a] for s, a in trajectory])
        for state, _ in trajectory:
            often[state] += probability
    return often


def state_values(policy, rewards):
    values = torch.zeros(STATES, dtype=torch.double)
    for state in reversed(range(7)):
        following = values[[2 * state + 1, 2 * state + 2]]
        values[state] = (policy[state] * (rewards[state] + following)).sum()
    return values


OBJECTIVES = [
    ("expected_entropy_regularised", 0.0),
    ("expected_entropy_regularised", 0.8),
    ("kickstarting", 0.8),
]


@pytest.mark.parametrize(("objective", "rl_coeff"), OBJECTIVES)
def test_that_the_gradient_is_that_of_the_enumerated_objective(tmp_path, objective, rl_coeff):
    """Acting and learning policies are the same; the values may be anything: they are a baseline."""
    learner, expert_q = learner_of(tmp_path, objective, rl_coeff)
    logits = np.concatenate([np.log(MU), np.zeros((8, 2))])
    set_policy(learner, logits, np.random.default_rng(0).normal(size=STATES))
    weight, bias = parameters_of(learner)
    log_pi, rewards = log_policy(weight, bias), step_rewards(expert_q, objective, rl_coeff)
    total = torch.zeros((), dtype=torch.double)
    for trajectory in TRAJECTORIES:
        probability = sum(log_pi[s, a] for s, a in trajectory).exp()
        total = total + probability * sum(rewards[s, a] for s, a in trajectory)
    loss = -total
    if objective == "kickstarting":
        loss = loss + cross_entropy_on_states(log_pi, expert_q, visits(MU))
    expected = torch.autograd.grad(loss, (weight, bias))
    for own, enumerated in zip(gradients(learner, batch_of_all(expert_q)), expected, strict=True):
        assert torch.allclose(own, enumerated, atol=1e-5)
        assert enumerated.abs().max() > 0.05


def stale_case(expert_q, objective, rl_coeff):
    """What learns is another policy than what acted, with exact values, so that nothing is biased.

    Which states were visited stays what it was, as with any actor-critic that learns by V-trace.

    Returns:
        Logits `(STATES, 2)` and values `(STATES,)` of what learns, and the gradients of an episode's loss at
        the head's weights and bias.
    """
    logits = torch.from_numpy(np.random.default_rng(3).normal(size=(STATES, 2)))
    rewards = step_rewards(expert_q, objective, rl_coeff)
    values = state_values(torch.softmax(logits, -1), rewards)
    weight, bias = logits.T.clone().requires_grad_(), torch.zeros(2, dtype=torch.double, requires_grad=True)
    log_pi, often = log_policy(weight, bias), visits(MU)
    loss = torch.zeros((), dtype=torch.double)
    for state in range(7):
        following = values[[2 * state + 1, 2 * state + 2]]
        loss = loss - often[state] * (log_pi[state].exp() * (rewards[state] + following)).sum()
    if objective == "kickstarting":
        loss = loss + cross_entropy_on_states(log_pi, expert_q, often)
    return logits, values, torch.autograd.grad(loss, (weight, bias))


UNCLIPPED = {"vtrace_clip_rho_threshold": 1e9, "vtrace_clip_pg_rho_threshold": 1e9}


@pytest.mark.parametrize(("objective", "rl_coeff"), OBJECTIVES)
def test_that_stale_data_are_corrected_at_the_states_that_were_visited(tmp_path, objective, rl_coeff):
    learner, expert_q = learner_of(tmp_path, objective, rl_coeff, **UNCLIPPED)
    logits, values, expected = stale_case(expert_q, objective, rl_coeff)
    set_policy(learner, logits, values)
    for own, enumerated in zip(gradients(learner, batch_of_all(expert_q)), expected, strict=True):
        assert torch.allclose(own, enumerated, atol=1e-5)
        assert enumerated.abs().max() > 0.05


def test_that_two_learners_have_the_enumerated_gradient_of_what_two_runners_played(
    tmp_path, ray_session, monkeypatch
):
    """As the algorithm itself does it, from stale data: what acts stays `BEHAVIOUR`, whatever is learned."""
    objective = "expected_entropy_regularised", 0.8
    config, expert_q = config_of(tmp_path, *objective, **UNCLIPPED)
    config.multi_task(num_envs_per_task=200).learners(num_learners=2).training(lr=0.0)
    config.env_runners(num_env_runners=2, rollout_fragment_length=8)  # an episode has 3 steps and a reset
    algo = config.reporting(min_time_s_per_iteration=0).build_algo()
    acting = np.concatenate([np.log(MU), np.zeros((8, 2))])
    from_learners(algo, partial(set_policy, logits=acting, values=np.zeros(STATES)))
    algo.env_runner_group.sync_weights(from_worker_or_learner_group=algo.learner_group)
    monkeypatch.setattr(algo.env_runner_group, "sync_weights", lambda **_: None)
    logits, values, expected = stale_case(expert_q, *objective)
    from_learners(algo, partial(set_policy, logits=logits, values=values))
    from_learners(algo, keep_gradients)
    while algo.train()["learners"]["__all_modules__"]["num_updates_lifetime"] < 15:
        pass
    first, second = from_learners(algo, lambda learner: learner.mean_gradients())
    algo.stop()
    for own, other, enumerated in zip(first, second, expected, strict=True):
        assert torch.equal(own, other)
        assert (DEPTH * own - enumerated).norm() < 0.03 * enumerated.norm()


def keep_gradients(learner):
    """Makes a learner remember the gradients, of all ranks together, of its head."""
    kept, apply = [], learner.apply_gradients

    def remember(gradients):
        apply(gradients)
        head = learner.module["student"].network.head
        kept.append((head.weight.grad.double().clone(), head.bias.grad.double().clone()))

    learner.apply_gradients = remember
    learner.mean_gradients = lambda: [torch.stack(of_all).mean(0) for of_all in zip(*kept, strict=True)]
