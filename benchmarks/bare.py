"""The yardstick: what one would write for this one purpose with numpy, torch and MinAtar alone."""

from typing import Any

import numpy as np
import torch
from minatar import Environment
from numpy.typing import NDArray
from side_process import PlainSide
from workload import (
    BETA,
    ENVS_PER_GAME,
    EPSILON,
    GAMES,
    LEARNING_STARTS,
    LR,
    REPLAY_CAPACITY,
    STEPS,
    TAU,
    TRAINING_INTENSITY,
    seeded_network,
)

from rllib_distill.losses import feature_regression_loss, policy_regression_loss
from rllib_distill.networks import Network


class Game:
    """Environments of one game and the arrays that a fragment of it takes: `(T + 1, B, ...)`, `(T, B)`."""

    def __init__(self, name: str, seed: int):
        """Makes the environments and their first observations."""
        self.name = name
        self.envs = [Environment(name) for _ in range(ENVS_PER_GAME)]
        for i, env in enumerate(self.envs):
            env.seed(seed + i)
            env.reset()
        self.own_actions = np.array(self.envs[0].minimal_action_set())
        self.shape = tuple(self.envs[0].state_shape())
        self.observations = np.empty((STEPS + 1, ENVS_PER_GAME, *self.shape), np.bool_)
        self.observations[-1] = [env.state() for env in self.envs]
        self.actions = np.empty((STEPS, ENVS_PER_GAME), np.int64)
        self.rewards = np.empty((STEPS, ENVS_PER_GAME), np.float32)
        self.dones = np.empty((STEPS, ENVS_PER_GAME), np.bool_)

    def step(self, t: int, actions: NDArray[np.int64], frames: NDArray[np.bool_]) -> None:
        """Plays one step, writes row `t` and the next observations, which go to `frames` too."""
        self.actions[t] = actions
        for b, (env, action) in enumerate(zip(self.envs, actions.tolist(), strict=True)):
            reward, done = env.act(action)
            if done:
                env.reset()
            frames[b] = env.state()
            self.rewards[t, b] = reward
            self.dones[t, b] = done
        self.observations[t + 1] = frames


class Loop:
    """Epsilon-greedy play of all games in lock step, one forward per step."""

    def __init__(self, games: tuple[str, ...]):
        """Makes games and student."""
        self.games = [Game(name, 1000 * i) for i, name in enumerate(games)]
        self.num_actions = 1 + max(int(game.own_actions.max()) for game in self.games)
        channels = max(game.shape[-1] for game in self.games)
        self.shape = (*self.games[0].shape[:2], channels)
        self.network: Network = seeded_network(0, self.shape, self.num_actions)
        self.rng = np.random.default_rng(0)
        rows = len(games) * ENVS_PER_GAME
        self.input = np.zeros((rows, *self.shape), np.bool_)
        self.legal = np.zeros((len(games), self.num_actions), np.bool_)
        own = np.zeros((len(games), self.num_actions), np.int64)
        for i, game in enumerate(self.games):
            self.legal[i, game.own_actions] = True
            own[i, : len(game.own_actions)] = game.own_actions
        self.illegal = np.where(self.legal, 0, -np.inf).astype(np.float32).repeat(ENVS_PER_GAME, axis=0)
        self.own, self.rows = own.repeat(ENVS_PER_GAME, axis=0), np.arange(rows)
        self.counts = self.legal.sum(1).repeat(ENVS_PER_GAME)
        for i, game in enumerate(self.games):
            self._frames(i, game)[...] = game.observations[-1]

    def _frames(self, i: int, game: Game) -> NDArray[np.bool_]:
        return self.input[i * ENVS_PER_GAME : (i + 1) * ENVS_PER_GAME, ..., : game.shape[-1]]

    @torch.inference_mode()
    def sample(self) -> int:
        """Fills every game's arrays; returns env steps."""
        for game in self.games:
            game.observations[0] = game.observations[-1]
        network_input = torch.from_numpy(self.input)
        for t in range(STEPS):
            values = self.network.of_rows(network_input)[0].numpy()
            actions = (values + self.illegal).argmax(1)
            random = self.own[self.rows, (self.rng.random(len(actions)) * self.counts).astype(np.int64)]
            actions = np.where(self.rng.random(len(actions)) < EPSILON, random, actions)
            for i, game in enumerate(self.games):
                mine = actions[i * ENVS_PER_GAME : (i + 1) * ENVS_PER_GAME]
                game.step(t, mine, self._frames(i, game))
        return STEPS * len(self.input)


class Labels:
    """Replay buffer of one game: states and what its expert says of them."""

    def __init__(self, game: Game, seed: int):
        """Allocates, and makes the expert."""
        self.game = game
        self.expert = seeded_network(seed, game.shape, len(game.own_actions)).eval()
        self.observations = np.zeros((REPLAY_CAPACITY, *game.shape), np.bool_)
        self.outputs = np.zeros((REPLAY_CAPACITY, len(game.own_actions)), np.float32)
        self.features = np.zeros((REPLAY_CAPACITY, self.expert.feature_size), np.float32)
        self.size = self.head = 0

    @torch.inference_mode()
    def add(self) -> None:
        """Labels the game's fragment and stores it."""
        states = self.game.observations[:-1].reshape(-1, *self.game.shape)
        outputs, features = self.expert.of_rows(torch.from_numpy(states))
        at = (self.head + np.arange(len(states))) % REPLAY_CAPACITY
        self.observations[at], self.outputs[at], self.features[at] = states, outputs.numpy(), features.numpy()
        self.head += len(states)
        self.size = min(self.head, REPLAY_CAPACITY)


class Student:
    """Actor-Mimic's gradient step in plain PyTorch."""

    def __init__(self, loop: Loop, batch: int):
        """Makes replay buffers, feature maps, optimizer and the arrays of a minibatch."""
        self.loop, self.n = loop, batch // len(loop.games)
        self.buffers = [Labels(game, seed) for seed, game in enumerate(loop.games, start=1)]
        size = loop.network.feature_size
        self.maps = torch.nn.ModuleList(torch.nn.Linear(size, b.expert.feature_size) for b in self.buffers)
        parameters = [*loop.network.parameters(), *self.maps.parameters()]
        self.optimizer = torch.optim.Adam(parameters, lr=LR, fused=True)
        self.frames = np.zeros((batch, *loop.shape), np.bool_)
        self.outputs = np.zeros((batch, loop.num_actions), np.float32)
        self.legal = torch.from_numpy(loop.legal.repeat(self.n, axis=0))

    def store(self) -> None:
        """Labels and stores what was sampled last."""
        for buffer in self.buffers:
            buffer.add()

    def step(self) -> None:
        """One minibatch."""
        features: list[Any] = []
        for i, buffer in enumerate(self.buffers):
            rows, index = (
                slice(i * self.n, (i + 1) * self.n),
                self.loop.rng.integers(buffer.size, size=self.n),
            )
            self.frames[rows, ..., : buffer.game.shape[-1]] = buffer.observations[index]
            self.outputs[rows, buffer.game.own_actions] = buffer.outputs[index]
            features.append(torch.from_numpy(buffer.features[index]))
        logits, hidden = self.loop.network.of_rows(torch.from_numpy(self.frames))
        expert_q = torch.from_numpy(self.outputs)
        loss = policy_regression_loss(expert_q, logits, tau=TAU, legal_actions=self.legal).mean()
        parts = zip(self.maps, hidden.chunk(len(self.maps)), features, strict=True)
        feature_loss = torch.cat([feature_regression_loss(f(part), wanted) for f, part, wanted in parts])
        loss = loss + BETA * feature_loss.mean()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()


class RunnerSide(PlainSide):
    """(a) Env steps."""

    def __init__(self) -> None:
        """Five games, eight environments each."""
        self.loop = Loop(GAMES)

    def run(self) -> float:
        """One fragment."""
        return self.loop.sample()


class LearnerSide(PlainSide):
    """(b) Gradient steps on a filled replay buffer."""

    def __init__(self, games: tuple[str, ...], batch: int, steps: int, fragments: int):
        """Fills the replay buffers with `fragments` fragments; `run` makes `steps` gradient steps."""
        self.student, self.steps = Student(Loop(games), batch), steps
        for _ in range(fragments):
            self.student.loop.sample()
            self.student.store()

    def run(self) -> float:
        """As many gradient steps as one fragment pays for."""
        for _ in range(self.steps):
            self.student.step()
        return self.steps


class ActorMimicSide(PlainSide):
    """(c) Everything: play, label, store, learn."""

    def __init__(self, batch: int):
        """Plays until the replay buffers hold enough."""
        self.student, self.batch, self.owed = Student(Loop(GAMES), batch), batch, 0.0
        while self.student.buffers[0].size < LEARNING_STARTS:
            self.student.loop.sample()
            self.student.store()

    def run(self) -> float:
        """One fragment and the gradient steps it pays for; returns env steps."""
        env_steps = self.student.loop.sample()
        self.student.store()
        self.owed += env_steps * TRAINING_INTENSITY / self.batch
        for _ in range(int(self.owed)):
            self.student.step()
        self.owed -= int(self.owed)
        return env_steps
