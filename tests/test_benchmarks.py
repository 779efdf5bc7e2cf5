"""Every side of the benchmark works, and the program runs in its quick form."""

import json
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "benchmarks"))
throughput = import_module("throughput")

SIDES: dict[str, throughput.SideSpec] = {}  # of sides that differ in sizes only, the first
for sections in throughput.sections(throughput.QUICK, "cpu").values():
    for section in sections:
        for side in section.sides:
            SIDES.setdefault(side.target, side)


@pytest.mark.parametrize("spec", SIDES.values(), ids=SIDES)
@pytest.mark.usefixtures("ray_session")
def test_that_a_side_does_its_work(spec, monkeypatch):
    """In this process: a process for each side, as the program has it, would import Ray again and again."""
    monkeypatch.setattr(import_module("distral"), "ENVS_PER_MAZE", 2)
    module, name = spec.target.split(":")
    few = {"steps": 2} if "steps" in spec.options else {}
    side = getattr(import_module(module), name)(**{**spec.options, **few})
    try:
        assert side.run() > 0
    finally:
        side.close()


def test_that_the_program_writes_its_figures(tmp_path):
    command = [sys.executable, "benchmarks/throughput.py", "--quick", "--only", "f", "--out", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    figures = json.loads((tmp_path / "throughput.json").read_text())["figures"]
    assert [figure["what"][:3] for figure in figures] == ["(f)", "(e)"]
    assert all(figure["ours"] > 0 and figure["other"] > 0 for figure in figures)
