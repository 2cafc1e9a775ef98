"""The verb: exit codes, one JSON object, the same findings from any number of workers, defects that stop nobody."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import pytest

from handeye.cli import main
from handeye.data.source import open_source
from handeye.data.verify.run import suite_of, verify


def _verify(*arguments: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, dict]:
    try:
        main(["data", "verify", *arguments, "--json"])
        code = 0
    except SystemExit as stopped:
        code = int(stopped.code or 0)
    return code, json.loads(capsys.readouterr().out)


def test_findings_do_not_depend_on_workers(demo_folder: Path) -> None:
    source = open_source(demo_folder)
    assert verify(source, workers=1) == verify(source, workers=2)


def test_exit_codes(demo_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Short, random demonstrations are odd; the same with a broken one are not to be used; nothing is nothing."""
    code, said = _verify(str(demo_folder), "--workers", "1", "--quick", capsys=capsys)
    found = {finding["check"]: finding for finding in said["findings"]}
    assert found["readable"]["verdict"] == "ok" and found["lengths"]["verdict"] == "warn"
    assert (code, said["verdict"]) in ((1, "odd"), (2, "unusable"))
    code, said = _verify(str(tmp_path), capsys=capsys)
    assert (code, said["verdict"]) == (2, "unusable") and "no demonstrations" in said["findings"][0]["found"]


def test_a_broken_episode_is_named_and_the_others_are_looked_at(task_file: Path, capsys) -> None:
    with h5py.File(task_file, "r+") as file:
        file["data/demo_1/actions"][3, 2] = float("nan")
    code, said = _verify(str(task_file), "--workers", "1", capsys=capsys)
    assert code == 2
    texts = [finding["found"] for finding in said["findings"]]
    assert "1 of 3 episodes cannot be read" in texts[0] and "actions[3, 2]" in texts[1]
    assert any("12 steps" in text for text in texts), "the other two, of 5 and 7 steps"


def test_the_suite_is_told_from_the_folder() -> None:
    assert suite_of(Path("/data/libero_10_no_noops/1.0.0")) == "libero_10"
    assert suite_of(Path("/libero_goal/libero_spatial_image")) == "libero_spatial"
    assert suite_of(Path("/data/libero_100")) is None
    assert suite_of(Path("/data/mine")) is None
