"""What a foreign layout has no place for is said."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from small_pi05 import policy

from handeye.checkpoints import convert as module
from handeye.checkpoints.convert_config import ConvertConfig
from handeye.checkpoints.load import Checkpoint
from handeye.checkpoints.partial import compare
from handeye.serve.untrained import checkpoint as untrained


def test_a_partial_start_is_warned_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    record = compare({"head.weight": (2, 2)}, {"head.weight": (3, 2)}, what="runs/other/final")
    manifest = untrained(camera_size=64).manifest
    marked = replace(manifest, family="pi05", provenance={**manifest.provenance, "partial": [record]})
    for begun, words in ((manifest, ()), (marked, ("runs/other/final", "will not say so"))):
        monkeypatch.setattr(module, "load", lambda *_, begun=begun: Checkpoint(manifest=begun, model=policy()))
        out = tmp_path / f"{len(words)}.npz"
        module.convert(ConvertConfig(checkpoint=str(tmp_path), out=out, to="openpi-jax"), tmp_path, {})
        said = capsys.readouterr().err
        assert all(word in said for word in words) and bool(said) == bool(words)
