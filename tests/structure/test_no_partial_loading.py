"""Nothing in the sources can load a part of a checkpoint, take code from one, or fetch another in its place."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

SOURCE = Path(__file__).parents[2] / "src" / "handeye"
FORBIDDEN = {("load_state_dict", "strict", False), ("load", "weights_only", False), ("load", "allow_pickle", True)}
NEVER = {"from_pretrained", "load_state_dict_from_url", "hf_hub_download", "snapshot_download"}
"""Calls that would bring a backbone from elsewhere, or another one."""

EXEMPT = {
    "serve/lerobot.py": "another library's policies, loaded by that library, strictly and from a folder",
    "sim/bench_reference.py": "runs in the reference's own environment, on the reference's own files",
}

UNPICKLES = {"checkpoints/inspect/pickles.py", "sim/init_states.py"}
"""Where an unpickler is made: both give every name a meaning of their own."""


def calls() -> Iterator[tuple[str, str, ast.Call]]:
    files = [path for path in sorted(SOURCE.rglob("*.py")) if str(path.relative_to(SOURCE)) not in EXEMPT]
    assert len(files) > 200
    for path in files:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
                yield str(path.relative_to(SOURCE)), name, node


def test_nothing_loads_a_part() -> None:
    loads = 0
    for path, name, call in calls():
        loads += name == "load_state_dict"
        assert name not in NEVER, f"{path}:{call.lineno}: {name}"
        for keyword in call.keywords:
            value = keyword.value.value if isinstance(keyword.value, ast.Constant) else None
            assert (name, keyword.arg, value) not in FORBIDDEN, f"{path}:{call.lineno}"
            assert keyword.arg != "trust_remote_code", f"{path}:{call.lineno}"
    assert loads >= 2
    assert "strict=True" in (SOURCE / "serve" / "lerobot.py").read_text()


def test_pickles_are_read_with_meanings_of_our_own() -> None:
    made = {path for path in (str(p.relative_to(SOURCE)) for p in SOURCE.rglob("*.py"))
            if "pickle.Unpickler" in (SOURCE / path).read_text()}  # fmt: skip
    assert made == UNPICKLES
    restricted = 0
    for path, name, call in calls():
        if name == "load" and isinstance(call.func, ast.Attribute) and getattr(call.func.value, "id", "") == "torch":
            assert any(keyword.arg == "weights_only" for keyword in call.keywords), f"{path}:{call.lineno}"
            restricted += 1
    assert restricted >= 1
