"""Finding a gymnasium environment id: packages register theirs only when asked, and people mistype."""

import sys
from difflib import get_close_matches
from importlib import import_module

import gymnasium as gym
from gymnasium.envs.registration import EnvSpec

from rllib_distill.errors import DistillError


def register_minatar() -> None:
    """Makes the ids `MinAtar/<Game>-v0` (6 actions) and `-v1` (minimal action set) known to gymnasium."""
    if "MinAtar/Breakout-v1" in gym.registry:
        return
    from minatar.gym import register_envs

    register_envs()


def register_atari() -> None:
    """Makes the ids `ALE/<Game>-v5` known to gymnasium."""
    import ale_py

    gym.register_envs(ale_py)


def register_minigrid() -> None:
    """Makes the ids `MiniGrid-<Level>-v0` and `BabyAI-<Level>-v0` known to gymnasium."""
    import_module("minigrid")


def register_gridworlds() -> None:
    """Makes this package's own ids, `rllib_distill/Maze-v0` and `TwoRooms-v0`, known to gymnasium."""
    for name, entry_point in _GRIDWORLDS.items():
        if name not in gym.registry:
            # gymnasium's wrapper for the time limit can be told another one, so these never end by themselves
            gym.register(name, entry_point, max_episode_steps=100, kwargs={"max_episode_steps": sys.maxsize})


_GRIDWORLDS = {
    "rllib_distill/Maze-v0": "rllib_distill.tasks.mazes:MazeEnv",
    "rllib_distill/TwoRooms-v0": "rllib_distill.tasks.two_rooms:TwoRoomsEnv",
}

# how an id begins -> (registers such ids, the extra of this package that installs them)
_PREFIXES = {
    "MinAtar/": (register_minatar, "minatar"),
    "ALE/": (register_atari, "atari"),
    "MiniGrid-": (register_minigrid, "minigrid"),
    "BabyAI-": (register_minigrid, "minigrid"),
    "rllib_distill/": (register_gridworlds, None),
}


def find_env_spec(env_id: str) -> EnvSpec:
    """Looks an id up in gymnasium's registry.

    Args:
        env_id: for example `"CartPole-v1"`, `"MinAtar/Breakout-v1"`, or `"my_package:MyEnv-v0"`.

    Raises:
        DistillError: the id is unknown (the nearest known one is named), or its package is not installed.
    """
    module, _, name = env_id.rpartition(":")
    for prefix, (register, extra) in _PREFIXES.items():
        if not name.startswith(prefix):
            continue
        try:
            register()
        except ImportError as error:
            message = f"environment {env_id!r} needs a package that is not installed"
            raise DistillError(f"{message}; install it: pip install 'rllib-distill[{extra}]'.") from error
    try:
        if module:
            import_module(module)
        spec = gym.spec(name)
    except (gym.error.Error, ImportError) as error:
        raise DistillError(_unknown_id(env_id)) from error
    if _is_classic_atari(spec):
        raise DistillError(_classic_atari(spec))
    return spec


def _unknown_id(env_id: str) -> str:
    for register, _ in _PREFIXES.values():  # so that "Minatar/..." finds "MinAtar/..."
        try:
            register()
        except ImportError:
            continue
    if _is_classic_atari(gym.registry.get(env_id)):
        return _classic_atari(gym.registry[env_id])
    close = get_close_matches(env_id, gym.registry, n=1, cutoff=0.5)
    hint = f"Did you mean {close[0]!r}? " if close else ""
    return (
        f"unknown environment id {env_id!r}. {hint}Allowed: an id that gymnasium.pprint_registry() lists, "
        "'module:id' for one that importing `module` registers, or in Python a class or a callable."
    )


def _is_classic_atari(spec: EnvSpec | None) -> bool:
    """`PongNoFrameskip-v4` and the like, whose frames are raw and whose rules differ from id to id."""
    return spec is not None and str(spec.entry_point).startswith("ale_py") and spec.namespace != "ALE"


def _classic_atari(spec: EnvSpec) -> str:
    same_game = (
        known.id
        for known in gym.registry.values()
        if known.namespace == "ALE" and known.kwargs.get("game") == spec.kwargs.get("game")
    )
    return (
        f"environment {spec.id!r} is one of Atari's classic ids, which differ in their preprocessing: write "
        f"{next(same_game, 'ALE/<Game>-v5')!r}, and settings such as frame_skip in env_config."
    )
