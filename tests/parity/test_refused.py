"""Hostile and broken initial states and archives, each refused or accepted as the reference data asks: nothing of them
is executed, nothing written outside."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from handeye.errors import UserError
from handeye.sim import init_states
from handeye.transfer.archives import unpack


@pytest.fixture
def manifest(goldens: Path) -> dict:
    path = goldens / "data" / "broken" / "MANIFEST.json"
    if not path.exists():
        pytest.skip(f"no {path}")
    return json.loads(path.read_text())


@pytest.mark.goldens
def test_initial_states(goldens: Path, manifest: dict, record_property) -> None:
    folder = goldens / "data" / "broken"
    variable = manifest["pickle_marker_environment_variable"]
    entries = [entry for entry in manifest["entries"] if entry["format"] == "init states"]
    accepted = refused = 0
    for entry in entries:
        path = folder / entry["path"]
        if entry["expect"] == "accept":
            states = init_states.read(path)
            assert list(states.shape) == entry["shape"]
            assert states[0].sum() == pytest.approx(entry["first_row_sum"], abs=1e-12)
            accepted += 1
        else:
            with pytest.raises(UserError) as caught:
                init_states.read(path)
            assert path.name in caught.value.what and caught.value.why
            refused += 1
        assert variable not in os.environ
    assert accepted and refused
    record_property("initial-state files accepted", accepted)
    record_property("initial-state files refused", refused)


@pytest.mark.goldens
def test_archives(goldens: Path, manifest: dict, tmp_path: Path, record_property) -> None:
    folder = goldens / "data" / "broken"
    entries = [entry for entry in manifest["entries"] if entry["format"] in ("zip", "tar")]
    accepted = refused = 0
    for number, entry in enumerate(entries):
        target = tmp_path / "deep" / "down" / str(number)
        target.parent.mkdir(parents=True, exist_ok=True)
        if entry["expect"] == "accept":
            unpack(folder / entry["path"], target)
            assert any(path.is_file() for path in target.rglob("*"))
            accepted += 1
            continue
        with pytest.raises(UserError) as caught:
            unpack(folder / entry["path"], target)
        assert Path(entry["path"]).name in caught.value.what and caught.value.why
        assert not target.exists() and not [*tmp_path.rglob("*escaped*")]
        assert not Path("/tmp/escaped_absolute.txt").exists()
        refused += 1
    assert accepted and refused
    record_property("archives accepted", accepted)
    record_property("archives refused", refused)
