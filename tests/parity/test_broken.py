"""Every broken input of the reference data, met as a user meets it: sound ones are accepted, odd ones warned about,
broken ones refused with one error. Nothing in them is executed, nothing is written outside its folder."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from handeye.checkpoints.files import read_pt, read_tensors
from handeye.data.source import open_source
from handeye.data.statistics import Statistics
from handeye.data.xvr.verify import verify as verify_xvr
from handeye.errors import UserError
from handeye.records import read_json
from handeye.sim import init_states
from handeye.transfer.archives import unpack

pytestmark = pytest.mark.goldens
Warnings = Sequence[str]


def _demonstrations(path: Path, tmp_path: Path) -> Warnings:
    source = open_source(path)
    for ref in source.episodes:
        episode = source.load(ref)
        assert len(episode) == ref.length and episode.images
        source.frames(ref, [0])
    return source.warnings


def _questions(path: Path, tmp_path: Path) -> Warnings:
    found = verify_xvr(path)
    if broken := [finding for finding in found if finding.verdict == "fail"]:
        raise UserError(broken[0].check, why=broken[0].found, fix=broken[0].fix)
    return [finding.found for finding in found if finding.verdict == "warn"]


def _archive(path: Path, tmp_path: Path) -> Warnings:
    unpack(path, tmp_path / "deep" / "down" / "target")
    return ()


def _states(path: Path, tmp_path: Path) -> Warnings:
    assert init_states.read(path).size
    return ()


def _pt(path: Path, tmp_path: Path) -> Warnings:
    assert read_pt(path)
    return ()


def _safetensors(path: Path, tmp_path: Path) -> Warnings:
    assert read_tensors([path])
    return ()


def _statistics(path: Path, tmp_path: Path) -> Warnings:
    for entry in read_json(path, what="dataset statistics").values():
        Statistics.from_json(entry)
    return ()


READ: dict[str, Callable[[Path, Path], Warnings]] = {
    "libero_hdf5": _demonstrations,
    "libero_hdf5 folder": _demonstrations,
    "rlds": _demonstrations,
    "lerobot v2.1": _demonstrations,
    "lerobot v3.0": _demonstrations,
    "xvr": _questions,
    "zip": _archive,
    "tar": _archive,
    "init states": _states,
    "torch checkpoint": _pt,
    "safetensors": _safetensors,
    "dataset statistics": _statistics,
}


def test_each_ends_as_its_manifest_asks(goldens: Path, tmp_path: Path, record_property: Any) -> None:
    root = goldens / "data" / "broken"
    manifest = json.loads((root / "MANIFEST.json").read_text())
    counts: Counter[str] = Counter()
    for number, entry in enumerate(manifest["entries"]):
        try:
            outcome = "warn" if READ[entry["format"]](root / entry["path"], tmp_path / str(number)) else "accept"
            said = ""
        except UserError as error:
            outcome, said = "reject", str(error)
            assert error.what and error.fix
        assert outcome == entry["expect"], f"{entry['path']}: {entry['what_is_wrong']} ({said})"
        assert manifest["pickle_marker_environment_variable"] not in os.environ
        counts[outcome] += 1
    assert sum(counts.values()) == manifest["num_entries"] and min(counts.values()) > 0
    assert not [*tmp_path.rglob("*escaped*")] and not Path("/tmp/escaped_absolute.txt").exists()
    record_property("broken and sound inputs that end as they should", counts.total())
