"""Environment ids, and the special vector envs that some of them have."""

import sys
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from importlib import import_module
from inspect import Parameter, signature
from typing import Any, TypeAlias

import gymnasium as gym
from gymnasium.envs.registration import EnvSpec
from gymnasium.vector import VectorEnv

from rllib_distill.errors import DistillError, nearest
from rllib_distill.tasks.atari import ATARI_DEFAULTS, AtariVectorEnv, check_atari_options
from rllib_distill.tasks.minatar import MinAtarVectorEnv


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
            # The limit is that of gymnasium's wrapper, which a task can change; the env itself has none.
            gym.register(name, entry_point, max_episode_steps=100, kwargs={"max_episode_steps": sys.maxsize})


_GRIDWORLDS = {
    "rllib_distill/Maze-v0": "rllib_distill.tasks.mazes:MazeEnv",
    "rllib_distill/TwoRooms-v0": "rllib_distill.tasks.two_rooms:TwoRoomsEnv",
}

# How an id begins -> (function that registers such ids, extra of this package that installs them).
_PREFIXES = {
    "MinAtar/": (register_minatar, "minatar"),
    "ALE/": (register_atari, "atari"),
    "MiniGrid-": (register_minigrid, "minigrid"),
    "BabyAI-": (register_minigrid, "minigrid"),
    "rllib_distill/": (register_gridworlds, None),
}


def find_env_spec(env_id: str) -> EnvSpec:
    """Looks up an id in gymnasium's registry.

    Args:
        env_id: An id such as `"CartPole-v1"`, `"MinAtar/Breakout-v1"` or `"my_package:MyEnv-v0"`.

    Raises:
        DistillError: The id is unknown (the message names the nearest known one) or one of Atari's classic
            ids, or its package is not installed.
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
    for register, _ in _PREFIXES.values():  # so that the nearest id to "Minatar/..." can be "MinAtar/..."
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
    """Whether it is an id like `PongNoFrameskip-v4`; the preprocessing of these differs from id to id."""
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


AnyVectorEnv: TypeAlias = VectorEnv[Any, Any, Any]

_MINATAR_OPTIONS = frozenset(("game", "sticky_action_prob", "difficulty_ramping", "use_minimal_action_set"))


def make_own_vector_env(
    env_id: str, options: Mapping[str, Any], max_episode_steps: int | None, num_envs: int, num_threads: int
) -> AnyVectorEnv | None:
    """Makes the special vector env for an id.

    Args:
        env_id: The id.
        options: The task's `env_config`.
        max_episode_steps: The task's limit in steps; None for the id's own.
        num_envs: Number of environments.
        num_threads: Number of threads that step them, for environments with own threads (ALE).

    Returns:
        The vector env; None if the id has none, or none with these options.

    Raises:
        DistillError: The id or an option is unknown, or a value is not allowed.
    """
    namespace = _namespace(env_id)
    if namespace == "ALE":
        arguments = atari_options(env_id, options, max_episode_steps)
        return AtariVectorEnv(num_envs=num_envs, **{"num_threads": num_threads, **arguments})
    if namespace == "MinAtar":
        arguments = {**find_env_spec(env_id).kwargs, **options}
        if not arguments.keys() <= _MINATAR_OPTIONS:
            return None
        return MinAtarVectorEnv(num_envs=num_envs, max_episode_steps=max_episode_steps, **arguments)
    if namespace == "rllib_distill":
        spec = find_env_spec(env_id)
        check_gridworld_options(spec.id, options)
        if "render_mode" in options:
            return None
        steps = max_episode_steps or spec.max_episode_steps
        return _gridworld(spec.id)(num_envs, **{**options, "max_episode_steps": steps})
    return None


def is_atari(env_id: object) -> bool:
    """Whether an id is that of an ALE game, whose `env_config` has the options of `AtariVectorEnv`."""
    return isinstance(env_id, str) and _namespace(env_id) == "ALE"


def atari_options(env_id: str, options: Mapping[str, Any], max_episode_steps: int | None) -> dict[str, Any]:
    """Returns the arguments of `AtariVectorEnv`; the id's own in gymnasium (sticky actions) are not used.

    Args:
        env_id: The id of an ALE game.
        options: The task's `env_config`.
        max_episode_steps: The task's limit in steps, which is converted to frames; None for no limit.

    Raises:
        DistillError: As `check_atari_options`, or the id is unknown.
    """
    check_atari_options(options)
    limit = {}
    if max_episode_steps is not None:
        set_or_default = {**ATARI_DEFAULTS, **options}
        frames = max_episode_steps * set_or_default["frame_skip"]
        limit["max_num_frames_per_episode"] = min(frames, set_or_default["max_num_frames_per_episode"])
    return {"game": find_env_spec(env_id).kwargs["game"], **options, **limit}


def check_gridworld_options(env_id: str, options: Mapping[str, Any]) -> None:
    """Checks the names of options for ids of this package; the environments check the values.

    Args:
        env_id: The id of any environment; ids of other packages are not checked.
        options: The task's `env_config`.

    Raises:
        DistillError: An option is unknown; the message names the nearest known one.
    """
    if _namespace(env_id) != "rllib_distill":
        return
    parameters = signature(_gridworld(env_id)).parameters.values()
    known = {parameter.name for parameter in parameters if parameter.kind is Parameter.KEYWORD_ONLY}
    known = known - {"max_episode_steps"} | {"render_mode"}
    for name, value in options.items():
        if name not in known:
            raise DistillError(f"unknown option {name!r} ({value!r}) of {env_id}. {nearest(name, known)}")


def _gridworld(env_id: str) -> Callable[..., AnyVectorEnv]:
    from rllib_distill.tasks.mazes import MazeVectorEnv  # imported here, since most runs need neither
    from rllib_distill.tasks.two_rooms import TwoRoomsVectorEnv

    return {"rllib_distill/Maze-v0": MazeVectorEnv, "rllib_distill/TwoRooms-v0": TwoRoomsVectorEnv}[env_id]


def _namespace(env_id: str) -> str:
    return env_id.rpartition(":")[2].partition("/")[0]
