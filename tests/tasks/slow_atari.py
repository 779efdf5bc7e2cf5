"""The DQN papers' preprocessing once more: slow, one game, from raw screens, with exact area averages."""

from collections import deque

import ale_py
import numpy as np
from ale_py import roms


def overlaps(source, target):
    """`(target, source)`: how much of each source pixel lies in each target pixel; a row adds up to `source`.

    In units of 1/target of a source pixel, so all are whole numbers and their sums exact.
    """
    source_edges, target_edges = np.arange(source + 1) * target, np.arange(target + 1) * source
    left = np.maximum.outer(target_edges[:-1], source_edges[:-1])
    right = np.minimum.outer(target_edges[1:], source_edges[1:])
    return np.maximum(right - left, 0).astype(np.float64)


class SlowAtari:
    """One game without sticky actions; `sums` are its last frames, oldest first, each `(size, size)` float64.

    A frame's pixel is the mean over an area of the screen, times the number of the screen's pixels. The last
    frame of an episode is None, not compared: at the end ALE stops repeating the action before it looks, so
    its frame mixes older screens. After a game's end nothing is learned from it; after a truncation it is one
    of the four frames that the last transition bootstraps from.
    """

    def __init__(self, game, frame_stack, frame_skip, size, max_frames, full_action_space):
        ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)
        self.ale = ale_py.ALEInterface()
        self.ale.setFloat("repeat_action_probability", 0.0)
        self.rom = roms.get_rom_path(game)
        self.ale.loadROM(self.rom)
        self.legal = self.ale.getLegalActionSet() if full_action_space else self.ale.getMinimalActionSet()
        self.height, self.width = self.ale.getScreenDims()
        self.rows, self.columns = overlaps(self.height, size), overlaps(self.width, size)
        self.sums = deque(maxlen=frame_stack)
        self.frame_skip, self.max_frames, self.size = frame_skip, max_frames, size

    def seed(self, seed):
        self.ale.setInt("random_seed", seed)
        self.ale.loadROM(self.rom)

    def reset(self, noops):
        self.ale.reset_game()
        for _ in range(noops):
            self.ale.act(ale_py.Action.NOOP)
        self.frames = 0
        self.sums.extend([np.zeros((self.size, self.size))] * self.sums.maxlen)
        self.sums.append(self.shrink(self.ale.getScreenGrayscale()))

    def step(self, action):
        """Score, whether a life was lost, whether the game is over, whether its time is."""
        lives, score, screens = self.ale.lives(), 0, []
        for _ in range(self.frame_skip):
            score += self.ale.act(self.legal[action])
            self.frames += 1
            if self.ale.game_over() or self.frames == self.max_frames:
                break
            screens.append(self.ale.getScreenGrayscale())
        over, late = self.ale.game_over(), self.frames == self.max_frames
        self.sums.append(None if over or late else self.shrink(np.max(screens[-2:], axis=0)))
        return score, 0 < self.ale.lives() < lives, over, late

    def shrink(self, screen):
        return self.rows @ screen.astype(np.float64) @ self.columns.T

    def assert_same(self, stack):
        """Every pixel of `(size, size, frame_stack)` is a grey level nearest to the exact mean.

        Where the mean is half way between two, OpenCV's float32 sum falls to either side.
        """
        pixels = self.height * self.width
        for j, sums in enumerate(self.sums):
            if sums is not None:
                error = np.abs(stack[..., j] * float(pixels) - sums)
                assert 2 * error.max() <= pixels, f"frame {j} is wrong by {error.max() / pixels} grey levels"
