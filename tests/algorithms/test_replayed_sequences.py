"""Students with an LSTM learn from replayed sequences what a slow loop over the raw history does."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete

from rllib_distill import ActorMimic, PolicyDistillation
from rllib_distill.core.learner import FragmentData
from rllib_distill.env_runner import MultiTaskEnvRunner
from rllib_distill.experts import ExpertBank
from rllib_distill.tasks import TaskSet
from tests.env_runner.counting_env import save_random_experts
from tests.learners import STEP, is_same, learner_of, weights_of

FRAGMENT, LENGTH, BURN_IN, TAU, BETA = 8, 12, 3, 0.5, 0.1
LSTM = {"type": "mlp", "hiddens": [8], "lstm": 4}


class Noise(gym.Env):
    """No observation comes twice; episodes end in either way, at any time."""

    def __init__(self, num_actions=3):
        self.observation_space = Box(-9.0, 9.0, (3,), np.float32)
        self.action_space = Discrete(num_actions)

    def observe(self):
        return self.np_random.standard_normal(3).astype(np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.observe(), {}

    def step(self, action):
        terminated, truncated = (bool(end) for end in self.np_random.random(2) < 0.1)
        return self.observe(), 0.0, terminated, truncated, {}


TASKS = {
    "three": {"env": Noise, "env_config": {"num_actions": 3}},
    "two": {"env": Noise, "env_config": {"num_actions": 2}},
}


class History:
    """All that the environments of one task showed, and the states in which the student acted there.

    Attributes:
        observations: `(T, B, 3)`, from the first step on.
        is_first: `(T, B)`.
        valid: `(T, B)`.
        states: `(T, B, S)`, before each row.
        labels: What the task's expert says of it all, in one go.
    """

    def __init__(self, fragments, acting, expert, task):
        def join(name):
            return torch.from_numpy(np.concatenate([getattr(f, name)[:FRAGMENT] for f in fragments]))

        self.observations, self.is_first, self.valid = map(join, ("observations", "is_first", "valid"))
        with torch.no_grad():
            said = acting(self.observations[None], [task], None, self.is_first[None])
            self.labels = expert.label(self.observations, None, self.is_first)
        self.states = torch.cat([torch.zeros_like(said.states[0, :1]), said.states[0, :-1]])

    def find(self, observation):
        """Where it was: time and environment."""
        ((time, env),) = (self.observations == observation).all(-1).nonzero().tolist()
        return time, env


@pytest.fixture
def make(actor_mimic, distillation, tmp_path):
    """Returns a function that makes a learner with other weights than those that acted, and the histories."""

    def make(algorithm, expert_network=None, behaviour="student", **training):
        paths = save_random_experts(tmp_path, TASKS, network=expert_network)
        config = {"actor_mimic": actor_mimic, "distillation": distillation}[algorithm](
            network=LSTM,
            tau=TAU,
            sequence_length=LENGTH,
            train_batch_size_per_learner=6 * LENGTH,
            **({"beta": BETA} if algorithm == "actor_mimic" else {}),
            **{"replay_capacity": 900, "burn_in_len": BURN_IN, **training},
        )
        config.multi_task(tasks=TASKS).experts(paths, behaviour=behaviour).validate()
        learner, runner = config.build_learner(), MultiTaskEnvRunner(config=config)
        runner.module.set_state(learner.module.get_state())
        samples = [runner.sample() for _ in range(6)]
        learner.update(training_data=FragmentData([(0, sample) for sample in samples]))
        acting, experts = runner.module["student"].network, ExpertBank.load(paths, TaskSet.from_config(TASKS))
        histories = {
            task: History([sample[i] for sample in samples], acting, experts[task], task)
            for i, task in enumerate(TASKS)
        }
        runner.stop()
        with torch.no_grad():
            for parameter in learner.module["student"].parameters():
                parameter += 0.3 * torch.randn_like(parameter)
        return learner, histories

    return make


def slow_loss(learner, histories, batch):
    """The mean over tasks of their rows' mean loss, step by step from the states that the runner had."""
    module = learner.module["student"]
    network, of_tasks = module.network, []
    for task, first in zip(batch.tasks, batch.observations[:, 0].unbind(), strict=True):
        history, rows = histories[task], []
        for observation in first:
            start, env = history.find(observation)
            assert start % FRAGMENT == 0  # of other rows no state is known
            hidden, cell = history.states[start, env].chunk(2)
            for t in range(start, start + LENGTH):
                if history.is_first[t, env]:
                    hidden, cell = torch.zeros_like(hidden), torch.zeros_like(cell)
                features = network.torso(history.observations[t, env][None])
                (hidden,), (cell,) = network.core(features, (hidden[None], cell[None]))
                if t - start < learner.config.burn_in_len:
                    hidden, cell = hidden.detach(), cell.detach()
                elif history.valid[t, env]:
                    rows.append(loss_of_row(module, task, hidden, history.labels, t, env))
        of_tasks.append(torch.stack(rows).mean())
    return torch.stack(of_tasks).mean()


def loss_of_row(module, task, hidden, labels, t, env):
    head = module.network.head
    logits = head(hidden) if isinstance(head, torch.nn.Linear) else head[task](hidden)
    num_actions = TASKS[task]["env_config"]["num_actions"]
    log_policy = logits[:num_actions].log_softmax(-1)
    target = (labels.outputs[t, env] / TAU).softmax(-1)
    cross_entropy = -(target * log_policy).sum()
    if hasattr(module, "feature_regressors"):
        distance = module.feature_regressors[task](hidden) - labels.features[t, env]
        return cross_entropy + BETA * distance.square().sum()
    return cross_entropy + (target * target.log()).sum()


@pytest.mark.parametrize("expert_network", [None, {"type": "mlp", "hiddens": [6], "lstm": 5}])
@pytest.mark.parametrize(
    ("algorithm", "behaviour", "training"),
    [
        ("actor_mimic", 0.5, {}),
        ("actor_mimic", "student", {"heads": "per_task", "burn_in_len": 0}),
        ("distillation", "student", {"one_task_per_minibatch": True}),
        ("distillation", 0.5, {"one_task_per_minibatch": False, "burn_in_len": 0}),
    ],
)
def test_that_the_loss_is_that_of_a_slow_loop_from_the_states_in_which_was_acted(
    make, algorithm, behaviour, training, expert_network
):
    learner, histories = make(algorithm, expert_network, behaviour, **training)
    parameters = list(learner.module["student"].network.parameters())
    for _ in range(3):
        batch = learner.draw_minibatch()
        assert batch["student"].state.any() and not batch["student"].columns["valid"].all()
        outputs = learner.module.forward_train(batch)
        loss = learner.compute_losses(fwd_out=outputs, batch=batch)["student"]
        slow = slow_loss(learner, histories, batch["student"])
        torch.testing.assert_close(loss, slow, rtol=1e-4, atol=1e-5)
        gradients = (torch.autograd.grad(each, parameters, allow_unused=True) for each in (loss, slow))
        for mine, expected in zip(*gradients, strict=True):
            if mine is not None and expected is not None:
                torch.testing.assert_close(mine, expected, rtol=1e-3, atol=1e-5)
            else:  # the head of a task that is not in the minibatch
                assert mine is expected is None and algorithm == "distillation"


def test_that_the_least_replay_buffer_has_a_sequence_whatever_gaps_there_are(make):
    """GIVEN environments that are reset between any two fragments THEN there is a sequence in every round."""
    learner, _ = make("actor_mimic", replay_capacity=4 * FRAGMENT * 3)
    runner = MultiTaskEnvRunner(config=learner.config)
    for i in range(8):
        sample = runner.sample(force_reset=i % 3 > 0)
        learner.update(training_data=FragmentData([(0, sample)]), **STEP)
    runner.stop()


@pytest.mark.usefixtures("ray_session")
@pytest.mark.parametrize("behaviour", ["student", 0.5])
@pytest.mark.parametrize(
    ("name", "algorithm"), [("actor_mimic", ActorMimic), ("distillation", PolicyDistillation)]
)
def test_that_it_trains_evaluates_and_goes_on_from_a_checkpoint(
    name, algorithm, behaviour, request, tmp_path
):
    training = {"network": LSTM, "train_batch_size_per_learner": 32, "burn_in_len": 2}
    algo = request.getfixturevalue(name)(**training).experts(behaviour=behaviour).build_algo()
    while not learner_of(algo).num_updates:
        algo.train()
    assert set(algo.evaluate()["env_runners"]["student_expert_ratio"]) == {"short", "long"}
    algo.save_to_path(tmp_path)
    again = algorithm.from_checkpoint(tmp_path)
    learners = [learner_of(each) for each in (algo, again)]
    assert is_same(*map(weights_of, learners))
    for _ in range(5):
        one, other = (learner.draw_minibatch()["student"] for learner in learners)
        assert one.tasks == other.tasks
        for values in ("observations", "state", "is_first"):
            assert torch.equal(getattr(one, values), getattr(other, values))
        assert torch.equal(one.columns["expert_outputs"], other.columns["expert_outputs"])
    again.train()
    for each in (algo, again):
        each.stop()
