"""Pictures are compared with a rendering of the state that they were taken in."""

from __future__ import annotations

import shutil
from pathlib import Path

import h5py
import pytest

from handeye.data.source import open_source
from handeye.data.verify import rendered


def test_recorded_pictures_are_the_right_way_up(recorded: Path) -> None:
    found = {finding.check: finding for finding in rendered.findings(open_source(recorded), suite=None)}
    assert {name: finding.verdict for name, finding in found.items()} == {
        "rendering agentview": "ok",
        "rendering wrist": "ok",
    }
    assert all(finding.evidence["pictures"] == 2 for finding in found.values())


@pytest.mark.parametrize(
    ("turn", "words"), [((1, -1), "mirrored"), ((-1, 1), "upside down"), ((-1, -1), "turned by 180")]
)
def test_turned_ones_are_told(turn: tuple[int, int], words: str, recorded: Path, tmp_path: Path) -> None:
    for path in recorded.glob("*.hdf5"):
        shutil.copy(path, tmp_path)
    for path in tmp_path.glob("*.hdf5"):
        with h5py.File(path, "r+") as file:
            for demo in file["data"].values():
                demo["obs/agentview_rgb"][...] = demo["obs/agentview_rgb"][()][:, :: turn[0], :: turn[1]]
    found = {finding.check: finding for finding in rendered.findings(open_source(tmp_path), suite=None)}
    assert found["rendering agentview"].verdict == "fail" and words in found["rendering agentview"].found
    assert found["rendering wrist"].verdict == "ok"


def test_what_cannot_be_simulated_is_a_note(demo_folder: Path) -> None:
    (found,) = rendered.findings(open_source(demo_folder), suite=None)
    assert found.verdict == "note" and "not compared" in found.found
