"""`handeye inspect` on every broken and sound input of the reference data, and on the reference's own checkpoints."""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from handeye.checkpoints.inspect.run import inspect
from handeye.sim.init_states import read as states

pytestmark = pytest.mark.goldens


def test_each_is_what_its_manifest_says(goldens: Path, record_property: Any) -> None:
    root = goldens / "data" / "broken"
    manifest = json.loads((root / "MANIFEST.json").read_text())
    counts: Counter[str] = Counter()
    for entry in manifest["entries"]:
        found, told = inspect(root / entry["path"], {}, states), entry["what_is_wrong"]
        if entry["expect"] == "reject":
            assert found.verdict == "broken" and found.problems and found.fix, f"{entry['path']}: {told}: {found}"
        else:
            assert found.verdict == "sound" and not found.problems, f"{entry['path']}: {told}: {found}"
            assert entry["expect"] != "warn" or found.notes
        if "pickle" in told or "exec" in told:
            assert any(name.endswith("exec") for name in found.code), entry["path"]
        assert manifest["pickle_marker_environment_variable"] not in os.environ
        counts[entry["expect"]] += 1
    assert counts.total() == manifest["num_entries"] and min(counts.values()) > 0
    record_property("broken and sound inputs told apart by inspect", counts.total())


def test_the_references_own_checkpoints(goldens: Path, tmp_path: Path, record_property: Any) -> None:
    """Whole, each lacks nothing but what it leaves open; what that is, is named."""
    found = inspect(goldens / "openvla" / "openvla_tiny", {"statistics": "toy_arm"}, states)
    assert (found.verdict, found.family) == ("sound", "openvla") and found.parameters == 944_352
    found = inspect(goldens / "openvla" / "openvla_tiny", {}, states)
    assert found.verdict == "incomplete" and "2 data sets" in found.missing[0] and len(found.statistics) == 2
    found = inspect(goldens / "openvla" / "oft_tiny" / "lora_adapter", {}, states)
    assert found.layout == "peft" and "rank 2, alpha 1" in found.adapters
    assert inspect(goldens / "openvla" / "oft_tiny", {}, states).family == "openvla_oft"
    shutil.copytree(goldens / "openvla" / "openvla_tiny", tmp_path / "copy")
    weights = tmp_path / "copy" / "model.safetensors"
    weights.chmod(0o600)
    content = weights.read_bytes()
    weights.write_bytes(content[:-100])
    assert inspect(tmp_path / "copy", {"statistics": "toy_arm"}, states).verdict == "broken"
    weights.parent.chmod(0o700)
    weights.unlink()
    assert inspect(tmp_path / "copy", {"statistics": "toy_arm"}, states).verdict == "incomplete"
    orbax = sorted((goldens / "pi05" / "merge").glob("base_*_checkpoint"))
    for path in orbax:
        found = inspect(path, {}, states)
        assert found.verdict == "incomplete" and found.layout == "openpi" and "statistics" in found.missing[0]
        assert found.parameters and found.parameters > 1000
    steps = sorted((goldens / "pi05" / "checkpoint_train_layout").glob("with*"))
    for path in steps:
        found = inspect(path, {}, states)
        assert "a folder of" in found.what and found.layout == "openpi"
    assert len(orbax) >= 2 and len(steps) >= 2
    atlas = sorted((goldens / "data" / "vggt").glob("atlas_tiny*.pt"))
    for path in atlas:
        found = inspect(path, {}, states)
        assert found.verdict == "broken" and "Qwen/Qwen3-0.6B-Base" in found.problems[0]
    lerobot = sorted((goldens / "data" / "lerobot").glob("v*"))
    for path in lerobot:
        assert inspect(path, {}, states).verdict == "sound", path
    record_property("checkpoints and sets told by inspect", 6 + len(orbax) + len(steps) + len(atlas) + len(lerobot))
    assert len(atlas) >= 2 and len(lerobot) >= 6
