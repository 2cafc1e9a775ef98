"""The manifest reads what it wrote, and refuses what it did not."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from handeye.checkpoints import manifest as manifests
from handeye.checkpoints.manifest import FILE, Manifest
from handeye.errors import UserError


def test_round_trip(checkpoint: Path, manifest: Manifest) -> None:
    found = manifests.read(checkpoint)
    assert found == replace(manifest, files=found.files, tensors=found.tensors)
    assert list(found.files) == ["model.safetensors"]
    assert found.tensors > 10
    manifests.verify(checkpoint, found.files)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda m: m.pop("format"), "format"),
        (lambda m: m.update(format="handeye-checkpoint-999"), "handeye-checkpoint-999"),
        (lambda m: m.pop("pipeline"), "missing or unknown: pipeline"),
        (lambda m: m.update(surprise=1), "missing or unknown: surprise"),
        (lambda m: m.update(tensors="many"), "'tensors' should be int"),
        (lambda m: m.update(merged=1), "'merged' should be bool"),
        (lambda m: m["specs"].pop("action"), "action"),
        (lambda m: m["pipeline"]["encode"][0].update(step="Evil"), "Evil"),
        (lambda m: m["statistics"]["action"].pop("q01"), "q01"),
        (lambda m: m["files"].update({"model.safetensors": {"bytes": 3}}), "'bytes' and 'sha256'"),
        (lambda m: m["files"].update({"../outside": {"bytes": 0, "sha256": ""}}), "leads out"),
        (lambda m: m["files"].update({"/etc/passwd": {"bytes": 0, "sha256": ""}}), "leads out"),
        (lambda m: m["files"].update({"a/../../b": {"bytes": 0, "sha256": ""}}), "leads out"),
        (lambda m: m["files"].update({"..\\b": {"bytes": 0, "sha256": ""}}), "leads out"),
        (lambda m: m["files"].update({"": {"bytes": 0, "sha256": ""}}), "leads out"),
    ],
)
def test_what_was_tampered_with_is_named(
    checkpoint: Path, change: Callable[[dict[str, Any]], object], said: str
) -> None:
    value = json.loads((checkpoint / FILE).read_text())
    change(value)
    (checkpoint / FILE).write_text(json.dumps(value))
    with pytest.raises(UserError) as error:
        manifests.read(checkpoint)
    assert said in str(error.value)


@pytest.mark.parametrize("content", ["", "{", "[]", "null", "\x00\x01"])
def test_what_is_no_manifest(checkpoint: Path, content: str) -> None:
    (checkpoint / FILE).write_text(content)
    with pytest.raises(UserError):
        manifests.read(checkpoint)


def test_a_folder_without_one_is_not_a_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no manifest"):
        manifests.read(tmp_path)
    with pytest.raises(UserError, match="no such folder"):
        manifests.read(tmp_path / "absent")


def test_every_wrong_file_is_listed(checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "outside").write_bytes(b"x")
    (checkpoint / "link").symlink_to(tmp_path / "outside")
    (checkpoint / "folder").symlink_to(tmp_path)
    (checkpoint / "other").write_bytes(b"y")
    (checkpoint / "longer").write_bytes(b"xx")
    one = manifests.describe(tmp_path, ["outside"])["outside"]
    names = ["link", "folder/outside", "other", "longer", "absent"]
    with pytest.raises(UserError) as error:
        manifests.verify(checkpoint, dict.fromkeys(names, one))
    for name, reason in zip(names, ["link", "link", "sha256", "has 2 bytes", "missing"], strict=True):
        assert any(name in part and reason in part for part in error.value.why.split("; ")), (name, error.value.why)
