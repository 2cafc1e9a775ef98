"""The verb: what is printed and written, and how it ends."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from handeye.cli import main
from handeye.diagnose.config import DiagnoseConfig
from handeye.diagnose.run import run
from handeye.errors import UserError
from handeye.policy.scripted import SCRIPTED
from handeye.serve.local import LocalPolicy

from .conftest import SIZE, Taught


def config(taught: Taught, out: Path, **flags: object) -> DiagnoseConfig:
    given = {"policy": str(taught.checkpoint), "dataset": taught.demos, "questions": 16, "out": out} | flags
    return DiagnoseConfig(**given)  # type: ignore[arg-type]


def test_a_clean_bill(policy: LocalPolicy, taught: Taught, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = {"suite": "tabletop", "episodes": 1, "steps": 24}
    assert run(config(taught, tmp_path, **flags), policy) == 0
    said = capsys.readouterr().out
    assert "Nothing is wrong with how" in said
    assert "error at the expert's states in the simulator" in said
    written = json.loads((tmp_path / "diagnosis.json").read_text())
    assert written["causes"] == []
    assert written["error"]["policy"] < 1 < written["error"]["other_questions"]
    assert written["simulator"]["executes"] == [8, 8]
    assert len(written["error"]["conventions"]) > 30
    with Image.open(tmp_path / "saw.png") as sheet:
        assert sheet.height > 8 * SIZE, "two places, two cameras, given and got"


def test_something_found(taught: Taught, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A policy that never looks has no picture to show, and is told so."""
    assert run(config(taught, tmp_path, policy="zero"), SCRIPTED["zero"]()) == 1
    assert "1. always the same answer (certain)" in capsys.readouterr().out


def test_from_the_command_line(taught: Taught, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["diagnose", str(taught.checkpoint), "--dataset", str(taught.demos), "--questions", "16", "--rows", "16"]
    main([*words, "--device", "cpu", "--out", str(tmp_path / "a"), "--json"])
    assert json.loads(capsys.readouterr().out)["causes"] == []
    with pytest.raises(SystemExit) as ended:
        main([*words[:1], "zero", *words[2:], "--out", str(tmp_path / "b")])
    assert ended.value.code == 1
    with pytest.raises(SystemExit) as ended:
        main([*words, "--out", str(tmp_path / "c"), "--suite", "nowhere"])
    assert ended.value.code == 2
    assert "nowhere" in capsys.readouterr().err


def test_mistakes(taught: Taught, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--questions 3 is too few"):
        config(taught, tmp_path, questions=3)
    with pytest.raises(UserError, match="expert needs no diagnosis"):
        run(config(taught, tmp_path), None)
    with pytest.raises(UserError, match="does not exist"):
        run(config(taught, tmp_path, dataset=tmp_path / "none"), SCRIPTED["zero"]())


def test_a_partial_start_is_said(taught: Taught, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kind = type(SCRIPTED["zero"]())
    policy = type("Marked", (kind,), {"identity": {"partial": "It began with part."}})()
    run(config(taught, tmp_path, policy="zero"), policy)
    assert "It began with part." in capsys.readouterr().err
    assert json.loads((tmp_path / "diagnosis.json").read_text())["partial"] == "It began with part."
