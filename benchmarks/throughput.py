"""Our parts beside others', measured in turns in one run: `python benchmarks/throughput.py`.

(a) env runner: a bare loop, stock RLlib; (b) learner: plain PyTorch; (c) ActorMimic: a bare loop, and two
remote runners beside none; (d) MultiTaskDQN: Stable-Baselines3, stock RLlib; (e) peak memory of all of them.
On Atari games: (f) env runner: a bare loop; (g) learner: plain PyTorch; (h) MultiTaskDQN: Stable-Baselines3.
On mazes: (i) Distral: stock RLlib's IMPALA.
Every side has a process of its own, with one torch thread ((f) to (h): two), measured while all others wait.
Runs on Linux, for eleven minutes; let nothing else run on the machine.
"""

import argparse
import os
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from report import Figure, print_table, write_json
from rich.console import Console
from side_process import SideProcess, SideSpec, alternate
from workload import GAMES

CORES = 2
NOTES = """Rates per second; ratios are medians of neighbouring measurements. All sides flush denormals.
(a) stock RLlib: 40 MultiTaskEnvs, one agent per episode, channels padded by a wrapper, all six actions.
(b) 32 rows on four games, 8 each: five do not divide them. Sampling from replay included.
(c) both sides label whole fragments and have one training intensity; the remote runners share 2 cores.
(d) 8 rows replayed per env step: 128 per 16 steps of 16 environments; stock RLlib also in its own 32 per 4
steps of one. No double Q: Stable-Baselines3 has none. RLlib takes float32; both others clip gradients.
(f) 8 environments each of Pong and Breakout, one Nature CNN. (g) Nature CNN, policy regression, 8 rows of 13
games each. (h) Pong, 8 environments, 32 rows per 4 env steps, float32; all sides have ALE's C++ games.
(i) 8 mazes, 16 environments of each, an MLP of 64 and 64 units per task, 2560 rows per update (or more of
Distral, where more have come), a remote runner and the learner on 2 cores; Distral has the distilled column
besides. Stock: MultiTaskEnvs.
(e) peak resident memory with env runners, without Ray's own daemons; here less is better."""


@dataclass(frozen=True)
class Scale:
    """How long it takes: `fragments` fill the replay buffer of (b)."""

    repeats: int
    seconds: float
    fragments: int


FULL, QUICK = Scale(repeats=7, seconds=1.5, fragments=40), Scale(repeats=1, seconds=0.5, fragments=4)


@dataclass(frozen=True)
class Comparison:
    """Two sides of a section, by name."""

    what: str
    ours: str
    other: str
    at_least: float | None


@dataclass(frozen=True)
class Section:
    """Sides that are measured together, and who is compared with whom."""

    sides: tuple[SideSpec, ...]
    comparisons: tuple[Comparison, ...]


def sections(scale: Scale, device: str) -> dict[str, tuple[Section, ...]]:
    """Everything there is to measure."""
    runner = Section(
        (
            SideSpec("MultiTaskEnvRunner", "ours:RunnerSide", {}),
            SideSpec("bare loop", "bare:RunnerSide", {}),
            SideSpec("stock MultiAgentEnvRunner", "stock:RunnerSide", {}),
        ),
        (
            Comparison("runner, env steps", "MultiTaskEnvRunner", "bare loop", 0.75),
            Comparison("runner, env steps", "MultiTaskEnvRunner", "stock MultiAgentEnvRunner", 4.0),
        ),
    )
    iteration = Section(
        (
            SideSpec("ActorMimic", "ours:ActorMimicSide", {"batch": 160, "num_env_runners": 0}),
            SideSpec("bare loop", "bare:ActorMimicSide", {"batch": 160}),
            SideSpec(
                "ActorMimic, 2 remote runners", "ours:ActorMimicSide", {"batch": 160, "num_env_runners": 2}
            ),
        ),
        (
            Comparison("ActorMimic, env steps", "ActorMimic", "bare loop", 0.75),
            Comparison("ActorMimic, env steps", "ActorMimic, 2 remote runners", "ActorMimic", 1.0),
        ),
    )
    dqn = Section(
        (
            SideSpec("MultiTaskDQN", "ours:DQNSide", {}),
            SideSpec("Stable-Baselines3 DQN", "stock:StableBaselinesSide", {}),
            SideSpec("stock RLlib DQN", "stock:RLlibDQNSide", {"batch": 32, "envs": 1, "fragment": 4}),
            SideSpec(
                "stock RLlib DQN, 128 rows", "stock:RLlibDQNSide", {"batch": 128, "envs": 16, "fragment": 1}
            ),
        ),
        (
            Comparison("DQN, env steps", "MultiTaskDQN", "Stable-Baselines3 DQN", 1.0),
            Comparison("DQN, env steps", "MultiTaskDQN", "stock RLlib DQN", 10.0),
            Comparison("DQN, env steps", "MultiTaskDQN", "stock RLlib DQN, 128 rows", None),
        ),
    )
    learners = (_learner(GAMES, 160, 0.90, scale), _learner(GAMES[:4], 32, 0.75, scale))
    distral = Section(
        (
            SideSpec("Distral", "distral:DistralSide", {"variant": "kl_ent_2col", "num_env_runners": 1}),
            SideSpec("stock IMPALA", "distral:StockIMPALASide", {"shared": False, "num_env_runners": 1}),
            SideSpec(
                "stock IMPALA, one module", "distral:StockIMPALASide", {"shared": True, "num_env_runners": 1}
            ),
        ),
        (
            Comparison("Distral, env steps", "Distral", "stock IMPALA", 5.0),
            Comparison("Distral, env steps", "Distral", "stock IMPALA, one module", 5.0),
        ),
    )
    atari = {"f": (_atari_runner(),), "g": _atari_learners(device, scale), "h": (_atari_dqn(),)}
    return {"a": (runner,), "b": learners, "c": (iteration,), "d": (dqn,), "i": (distral,), **atari}


def _learner(games: tuple[str, ...], batch: int, at_least: float, scale: Scale) -> Section:
    options = {"games": games, "batch": batch, "steps": 2560 // batch, "fragments": scale.fragments}
    ours, other = f"ActorMimicLearner, {batch} rows", f"plain PyTorch, {batch} rows"
    return Section(
        (SideSpec(ours, "ours:LearnerSide", options), SideSpec(other, "bare:LearnerSide", options)),
        (Comparison("learner, gradient steps", ours, other, at_least),),
    )


def _atari_runner() -> Section:
    ours, other = "MultiTaskEnvRunner, Atari", "bare loop, Atari"
    return Section(
        (SideSpec(ours, "atari:RunnerSide", {}), SideSpec(other, "atari:BareRunnerSide", {})),
        (Comparison("runner, env steps", ours, other, 0.80),),
    )


def _atari_learners(device: str, scale: Scale) -> tuple[Section, ...]:
    """Float32, and on a GPU also bfloat16 on both sides."""
    sections = []
    for mixed_precision in (False, True) if device == "cuda" else (False,):
        options = {"device": device, "mixed_precision": mixed_precision}
        options |= {"steps": 10 if device == "cpu" else 50, "fragments": max(2, scale.fragments // 2)}
        kind = f"Nature CNN, 104 rows, {device}{', bfloat16' if mixed_precision else ''}"
        ours, other = f"ActorMimicLearner, {kind}", f"plain PyTorch, {kind}"
        sides = (
            SideSpec(ours, "atari:LearnerSide", options),
            SideSpec(other, "atari:BareLearnerSide", options),
        )
        sections.append(Section(sides, (Comparison("learner, gradient steps", ours, other, 0.95),)))
    return tuple(sections)


def _atari_dqn() -> Section:
    ours, other = "MultiTaskDQN, Pong", "Stable-Baselines3 DQN, Pong"
    return Section(
        (SideSpec(ours, "atari:DQNSide", {}), SideSpec(other, "atari:StableBaselinesSide", {})),
        (Comparison("DQN, env steps", ours, other, 1.0),),
    )


def measure(letter: str, section: Section, scale: Scale) -> tuple[list[Figure], list[Figure]]:
    """Runs a section's sides; returns figures of speed and of memory."""
    with ExitStack() as stack:
        processes = [stack.enter_context(SideProcess(spec)) for spec in section.sides]
        rates = alternate(processes, scale.repeats, scale.seconds)
        peaks = {process.spec.name: process.peak_mb() for process in processes}
    rate_of = {process.spec.name: rate for process, rate in zip(processes, rates, strict=True)}
    speed, memory = [], []
    for comparison in section.comparisons:
        ours, other = comparison.ours, comparison.other
        pair = f"{ours} : {other}"
        what = f"({letter}) {comparison.what}, {pair}"
        speed.append(Figure.of_rates(what, rate_of[ours], rate_of[other], comparison.at_least))
        memory.append(Figure.of_peaks(f"(e) peak MB, {pair}", peaks[ours], peaks[other]))
    return speed, memory


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures, prints, writes."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="whether it runs, not how fast")
    parser.add_argument("--only", default="a,b,c,d,f,g,h,i", help="sections, e.g. a,c")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="of (g)'s learners")
    parser.add_argument(
        "--out", type=Path, default=Path("results/benchmarks"), help="folder for the JSON file"
    )
    options = parser.parse_args(arguments)
    scale = QUICK if options.quick else FULL
    known = sections(scale, options.device)
    letters = options.only.split(",")
    if unknown := [letter for letter in letters if letter not in known]:
        parser.error(f"--only has {unknown}; the sections are {', '.join(known)}.")

    os.environ |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])
    speed: list[Figure] = []
    memory: list[Figure] = []
    for letter in letters:
        for section in known[letter]:
            with Console().status(f"({letter}) {' : '.join(side.name for side in section.sides)}"):
                faster, smaller = measure(letter, section, scale)
            speed += faster
            memory += smaller
    print_table([*speed, *memory], NOTES)
    path = options.out / "throughput.json"
    write_json(
        path, [*speed, *memory], {"quick": options.quick, "repeats": scale.repeats, "seconds": scale.seconds}
    )
    print(f"Written to {path}.")


if __name__ == "__main__":
    main()
