"""The folder listing is the data flow: imports follow the arrows, and torch stays on its side of them."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src" / "handeye"
EVERYONE = {"types", "errors", "records", "console", "paths", "film", "conventions", "protocols", "transfer"}
MAY_USE = {
    "conventions": set(),
    "protocols": set(),
    "transfer": set(),
    "sim": set(),
    "distributed": set(),
    "expert": {"distributed", "sim", "data"},
    "data": {"distributed", "sim"},  # replay, making again, orientation against a rendering
    "models": set(),
    "compute": {"models"},
    "checkpoints": {"models", "data", "compute"},
    "train": {"models", "data", "checkpoints", "compute", "policy"},  # `policy`: how options follow a folder's name
    "serve": {"data", "models", "checkpoints", "policy", "compute"},
    "policy": {"data"},  # `replay` reads demonstrations
    # `data`: questions are asked of a set of them; `compute`: the names of its flags
    "evaluate": {"distributed", "policy", "sim", "expert", "data", "compute"},
    "report": {"evaluate"},
    # torch only in the processes of doctor/probes.py
    "doctor": {"sim", "data", "compute", "train", "models", "checkpoints"},
    "diagnose": {"data", "evaluate", "expert", "policy", "sim"},
}
NO_TORCH = {"distributed", "conventions", "protocols", "transfer", "sim", "expert", "policy", "evaluate", "report"}
NO_TORCH |= {"diagnose"}
NEVER = {
    "robosuite",
    "robomimic",
    "libero",
    "bddl",
    "numba",
    "hydra",
    "tensorflow",
    "dlimp",
    "draccus",
    "timm",
    "torchvision",
}
TOP_LEVEL = {"__init__", "types", "errors", "records", "console", "paths", "film", "cli", "quickstart"}


def imported(path: Path) -> Iterator[str]:
    """Every module a file imports, wherever in the file it does."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{name.name}" for name in node.names)


def test_every_package_is_on_the_map() -> None:
    packages = {path.name for path in SOURCE.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert packages == set(MAY_USE)
    assert {path.stem for path in SOURCE.glob("*.py")} == TOP_LEVEL


@pytest.mark.parametrize("package", MAY_USE)
def test_arrows_point_one_way(package: str) -> None:
    files = sorted((SOURCE / package).rglob("*.py"))
    assert files
    allowed = EVERYONE | MAY_USE[package] | {package}
    for path in files:
        for name in imported(path):
            if name.startswith("handeye."):
                assert name.split(".")[1] in allowed, f"{path.name}: {package} may not import {name}"


def test_what_is_never_imported() -> None:
    files = sorted(SOURCE.rglob("*.py"))
    assert len(files) > 50
    for path in files:
        roots = {name.split(".")[0] for name in imported(path)}
        assert not roots & NEVER, f"{path}: {roots & NEVER}"
        if path.parent.name in NO_TORCH:
            assert "torch" not in roots, f"{path}: {path.parent.name} is the light side, it does without torch"


def test_sizes_stay_readable() -> None:
    """500 lines a file (a model family 800), 100 a function: past that it is two ideas."""
    files = sorted(SOURCE.rglob("*.py"))
    assert len(files) > 50
    for path in files:
        text = path.read_text()
        limit = 800 if path.parent.name == "models" else 500
        assert text.count("\n") <= limit, f"{path} has {text.count(chr(10))} lines"
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):
                length = (node.end_lineno or 0) - node.lineno + 1
                assert length <= 100, f"{path.name}:{node.name} is {length} lines long"


def test_every_module_says_what_it_is_for() -> None:
    for path in sorted(SOURCE.rglob("*.py")):
        tree = ast.parse(path.read_text())
        assert ast.get_docstring(tree) or not tree.body, f"{path} has no docstring"


def test_python_is_supported() -> None:
    assert sys.version_info >= (3, 11)
