"""The benchmark's figures are there, and an interpreter without the reference is one clear error."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from handeye.errors import UserError
from handeye.sim import bench
from handeye.sim.config import BenchSimConfig


@pytest.mark.libero
@pytest.mark.slow
def test_figures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = bench.run(BenchSimConfig(tasks=("libero_object/0",), blocks=2, backend="auto", json=tmp_path / "b.json"))
    assert path is not None
    found = json.loads(path.read_text())
    ms = found["control_step"]["libero_object/0"]["ms"]
    assert set(ms) == {"ours, bitwise", "ours, fast", "floor: 25 mj_step"}
    assert 0.1 < ms["floor: 25 mj_step"] < ms["ours, bitwise"] < 200
    ours = found["cameras"]["libero_object/0"]["ours"]
    assert 0 < ours["second use, s"] < ours["first use, s"]
    assert 100 < ours["memory, MB"]["pss"] <= ours["memory, MB"]["rss"] < 2000
    assert "episodes per minute" in capsys.readouterr().out


@pytest.mark.libero
def test_an_interpreter_without_the_reference() -> None:
    with pytest.raises(UserError, match="reference side ended") as caught:
        bench.run(BenchSimConfig(tasks=("libero_object/0",), reference=Path(sys.executable), backend="auto"))
    assert "No module named 'libero'" in caught.value.why


def test_settings_that_measure_nothing() -> None:
    for wrong in ({"blocks": 1}, {"tasks": ()}, {"tasks": ("libero_object",)}, {"reference": Path("/nowhere/python")}):
        with pytest.raises(UserError):
            BenchSimConfig(**wrong)
