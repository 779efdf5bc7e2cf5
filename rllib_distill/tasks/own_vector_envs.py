"""Ids with a vector env of their own, which steps many times faster than gymnasium's `SyncVectorEnv`."""

from collections.abc import Callable, Mapping
from inspect import Parameter, signature
from typing import TYPE_CHECKING, Any, TypeAlias

from gymnasium.vector import VectorEnv

from rllib_distill.errors import DistillError, nearest
from rllib_distill.tasks.atari import AtariVectorEnv
from rllib_distill.tasks.atari_options import ATARI_DEFAULTS, check_atari_options
from rllib_distill.tasks.env_ids import find_env_spec
from rllib_distill.tasks.minatar import MinAtarVectorEnv

if TYPE_CHECKING:
    from rllib_distill.tasks.task_spec import TaskSpec

AnyVectorEnv: TypeAlias = VectorEnv[Any, Any, Any]

_MINATAR_OPTIONS = frozenset(("game", "sticky_action_prob", "difficulty_ramping", "use_minimal_action_set"))


def make_own_vector_env(task: "TaskSpec", num_envs: int, num_threads: int) -> AnyVectorEnv | None:
    """Makes the vector env that a task's id has of its own; None if it has none that takes its `env_config`.

    Args:
        task: without wrappers, which are for single environments.
        num_envs: how many environments.
        num_threads: that may step them, where the environments have threads of their own (ALE).

    Raises:
        DistillError: the id is unknown, or an option or its value.
    """
    if not isinstance(task.env, str):
        return None
    make = _MAKERS.get(_namespace(task.env))
    return make(task.env, task, num_envs, num_threads) if make else None


def _make_atari(env_id: str, task: "TaskSpec", num_envs: int, num_threads: int) -> AnyVectorEnv:
    options = {"num_threads": num_threads, **atari_options(env_id, task.env_config, task.max_episode_steps)}
    return AtariVectorEnv(num_envs=num_envs, **options)


def _make_minatar(env_id: str, task: "TaskSpec", num_envs: int, _: int) -> AnyVectorEnv | None:
    options = {**find_env_spec(env_id).kwargs, **task.env_config}
    if not options.keys() <= _MINATAR_OPTIONS:
        return None
    return MinAtarVectorEnv(num_envs=num_envs, max_episode_steps=task.max_episode_steps, **options)


def _make_gridworld(env_id: str, task: "TaskSpec", num_envs: int, _: int) -> AnyVectorEnv | None:
    spec = find_env_spec(env_id)
    check_gridworld_options(spec.id, task.env_config)
    if "render_mode" in task.env_config:
        return None
    steps = task.max_episode_steps or spec.max_episode_steps
    return _gridworld(spec.id)(num_envs, **{**task.env_config, "max_episode_steps": steps})


_MAKERS: dict[str, Callable[[str, "TaskSpec", int, int], AnyVectorEnv | None]] = {
    "ALE": _make_atari,
    "MinAtar": _make_minatar,
    "rllib_distill": _make_gridworld,
}
"""Namespace -> makes the vector env from id, task, number of environments and of threads."""


def is_atari(env_id: object) -> bool:
    """Whether it is an ALE game, which has ALE's settings in `env_config` instead of gymnasium's."""
    return isinstance(env_id, str) and _namespace(env_id) == "ALE"


def atari_options(env_id: str, options: Mapping[str, Any], max_episode_steps: int | None) -> dict[str, Any]:
    """The game and its settings; gymnasium's own for the id (sticky actions) are not the papers'.

    Raises:
        DistillError: see `check_atari_options`.
    """
    check_atari_options(options)
    limit = {}
    if max_episode_steps is not None:
        set_or_default = {**ATARI_DEFAULTS, **options}
        frames = max_episode_steps * set_or_default["frame_skip"]
        limit["max_num_frames_per_episode"] = min(frames, set_or_default["max_num_frames_per_episode"])
    return {"game": find_env_spec(env_id).kwargs["game"], **options, **limit}


def check_gridworld_options(env_id: str, options: Mapping[str, Any]) -> None:
    """Checks the names in a task's `env_config` if the id is one of ours; their values are checked when used.

    Raises:
        DistillError: an unknown option (the nearest is named).
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
    from rllib_distill.tasks.mazes import MazeVectorEnv  # here, as most experiments need neither
    from rllib_distill.tasks.two_rooms import TwoRoomsVectorEnv

    return {"rllib_distill/Maze-v0": MazeVectorEnv, "rllib_distill/TwoRooms-v0": TwoRoomsVectorEnv}[env_id]


def _namespace(env_id: str) -> str:
    return env_id.rpartition(":")[2].partition("/")[0]
