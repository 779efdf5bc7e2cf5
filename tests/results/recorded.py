"""Runs as `rllib record` keeps them, written by hand."""

import json

from rllib_distill.evaluation.report import FORMAT


def score(mean, **more):
    """What a policy scored in 4 episodes that all went alike."""
    mean = float(mean)
    alike = {"mean": mean, "std": 0.0, "min": mean, "max": mean}
    return {"episodes": 4, "env_steps": 40, **alike, "mean_length": 10.0, **more}


def run(scores, seed=0, algorithm="ActorMimic", measure="ratio", evaluations=(), curve=None, **config):
    """A run.

    Args:
        scores: Task -> means of random play, expert and student; or, without experts, random play and policy.
        seed: Of the training.
        algorithm: Its name.
        measure: Of the scores.
        evaluations: While it trained.
        curve: As `training_curve` makes it; None: the run is of before there were any.
        config: Settings.
    """
    tasks = {}
    for task, means in scores.items():
        policies = ("random", "expert", "student") if len(means) == 3 else ("random", "policy")
        tasks[task] = {policy: score(mean) for policy, mean in zip(policies, means, strict=True)}
    return {
        "format": FORMAT,
        "tasks": tasks,
        **({"measure": measure} if "student" in next(iter(tasks.values())) else {}),
        "algorithm": algorithm,
        "evaluation": {"episodes": 4, "epsilon": 0.01, "seed": 0},
        "training": {"env_steps": 2_500_000, "seconds": 600.0, "seed": seed},
        "config": {"seed": seed, **config},
        "versions": {"python": "3.11.7", "ray": "2.60.0"},
        "command": "rllib train file x.yaml",
        "evaluations": list(evaluations),
        **({} if curve is None else {"training_curve": curve}),
    }


def evaluations(student, experts):
    """One evaluation of task `pong` every 10 env steps."""
    return [
        {"env_steps": 10 * i, "student": {"pong": s}, "experts": {"pong": e}}
        for i, (s, e) in enumerate(zip(student, experts, strict=True), 1)
    ]


def training_curve(steps, **returns):
    """Points at those env steps.

    Args:
        steps: Env steps.
        returns: Task -> its return at each; None where there is none yet.
    """
    return [
        {
            "env_steps": step,
            "seconds": step / 10,
            "returns": {task: of_task[i] for task, of_task in returns.items() if of_task[i] is not None},
        }
        for i, step in enumerate(steps)
    ]


def save(folder, **runs):
    """Writes runs into a folder, by name."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in runs.items():
        (folder / f"{name}.json").write_text(json.dumps(content))


def distral(variant, steps, seed=0, **returns):
    """A run of Distral with those training returns."""
    scores = {task: (0.0, 1.0) for task in returns}
    curve = training_curve(steps, **returns)
    return run(scores, seed=seed, algorithm="Distral", variant=variant, curve=curve)
