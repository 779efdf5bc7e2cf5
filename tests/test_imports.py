"""Imports run one way, and `import rllib_distill` loads nothing heavy."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "rllib_distill"
# Each unit may import those before it. Two of one layer may know each other one way, not both.
LAYERS = [
    {"errors"},
    {"files", "imports", "schema"},
    {"losses", "tasks"},
    {"networks"},
    {"experts", "replay"},
    {"env_runner"},
    {"core"},
    {"algorithms"},
    {"evaluation", "registry"},
    {"results"},
    {"__init__"},
    {"cli"},
]
LEVEL = {unit: level for level, layer in enumerate(LAYERS) for unit in layer}
WITHOUT_RAY = ("errors", "files", "imports", "schema", "losses", "networks")
FILES = sorted(PACKAGE.rglob("*.py"))


def unit_of(path: Path) -> str:
    """The first name below the package: rllib_distill/losses/td_loss.py is in `losses`."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_modules(path: Path) -> Iterator[str]:
    """Full names of what a file imports anywhere in it, functions included."""
    here = ["rllib_distill", *path.relative_to(PACKAGE).with_suffix("").parts]
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = here[: -node.level] if node.level else []
            names = [*base, *filter(None, [node.module])]
            yield from (".".join([*names, name.name]) for name in node.names)


def imported_units(path: Path) -> Iterator[str]:
    """Units of this package that a file imports, its own excepted."""
    for module in imported_modules(path):
        package, *names = module.split(".")
        if package == "rllib_distill":
            unit = names[0] if names and names[0] in LEVEL else "__init__"
            if unit != unit_of(path):
                yield unit


def test_that_every_unit_has_its_layer():
    assert {unit_of(path) for path in FILES} <= set(LEVEL)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_that_imports_run_one_way(path):
    above = {unit for unit in imported_units(path) if LEVEL[unit] > LEVEL[unit_of(path)]}
    assert not above, f"{unit_of(path)} must not import {above}"


def test_that_units_of_one_layer_do_not_import_each_other_in_circles():
    imports = {(unit_of(path), unit) for path in FILES for unit in imported_units(path)}
    assert not [(a, b) for a, b in imports if (b, a) in imports]


def test_that_no_files_import_each_other_in_circles_functions_included():
    names = {}
    for path in FILES:
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        names[".".join(parts[:-1] if path.stem == "__init__" else parts)] = path
    imports = {name: set() for name in names}
    for name, path in names.items():
        for imported in imported_modules(path):
            module = imported if imported in names else imported.rpartition(".")[0]
            if module in names and module != name:
                imports[name].add(module)
    while ends := [name for name, others in imports.items() if not others]:
        imports = {name: others - set(ends) for name, others in imports.items() if name not in ends}
    assert not imports  # what is left imports something that leads back to it


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_that_ray_stays_out_of_losses_networks_and_all_tasks_but_one_file(path):
    if unit_of(path) in WITHOUT_RAY or (unit_of(path) == "tasks" and path.name != "multi_task_env.py"):
        assert not [module for module in imported_modules(path) if module.split(".")[0] == "ray"]


def test_that_importing_the_package_is_light():
    check = "import sys, rllib_distill; print(*{'torch', 'ray', 'gymnasium'} & set(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert loaded.stdout.split() == []


def test_that_losses_and_networks_load_without_ray():
    check = (
        "import sys; sys.modules['ray'] = None; import rllib_distill.losses, rllib_distill.networks; "
        "print(sorted(name for name in sys.modules if name.startswith('ray.')))"
    )
    loaded = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert loaded.stdout.strip() == "[]"
