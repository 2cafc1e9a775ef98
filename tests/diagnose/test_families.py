"""A published folder is diagnosed as it lies. Its weights here are random, and that is what is found."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from openvla_goldens import published
from small_vggt import QWEN3, small

from handeye.checkpoints.manifest import Manifest
from handeye.checkpoints.save import save
from handeye.conventions.plain import to_plain
from handeye.data.pipeline.vggt import vggt_pipeline
from handeye.data.source import open_source
from handeye.data.statistics import measure
from handeye.diagnose.diagnosis import diagnose
from handeye.serve.local import load_policy

from .conftest import Taught

KEY = "statistics=libero_spatial_no_noops"


@pytest.mark.goldens
@pytest.mark.slow
def test_openvla_oft(goldens: Path, tmp_path: Path) -> None:
    folder = published(goldens / "openvla", "oft_tiny", tmp_path)
    source = open_source(goldens / "data" / "rlds" / "libero_spatial_no_noops")
    diagnosis = diagnose(load_policy(f"{folder}#{KEY}", rows=4), source, count=4)
    assert diagnosis.causes[0].name == "no better than a constant"
    assert diagnosis.recorded is not None and diagnosis.recorded.answers.shape == (4, 8, 7)
    names = [each.candidate.name for each in diagnosis.recorded.tried]
    assert "without CropImages in its pipeline" in names, "what its own pipeline has is tried too"
    assert "decoded with the statistics of these demonstrations" in names


def test_a_policy_on_vggt(taught: Taught, tmp_path: Path) -> None:
    """Of random weights, as it is evaluated: its own cameras, sentence and pipeline are tried."""
    source = open_source(taught.demos)
    statistics = measure((source.load(ref, images=False).actions, source.load(ref, images=False).proprio)
                         for ref in source.episodes)  # fmt: skip
    model = small(prompt_length=77, language=replace(QWEN3, vocabulary=512))
    pipeline = vggt_pipeline(source.specs, statistics, None, image_size=28, prompt_length=77)
    manifest = Manifest(
        family="vggt_vla", config=to_plain(model.config), files={}, tensors=0, specs=source.specs, pipeline=pipeline,
        statistics=statistics, merged=False, step=0, provenance={},
    )  # fmt: skip
    save(tmp_path / "vggt", manifest, model.state_dict())
    diagnosis = diagnose(load_policy(tmp_path / "vggt", rows=16), source, count=16)
    assert diagnosis.causes[0].name in ("no better than a constant", "always the same answer")
    assert diagnosis.recorded is not None and diagnosis.recorded.answers.shape[1:] == (4, 7)
    names = [each.candidate.name for each in diagnosis.recorded.tried]
    assert "top and bottom swapped" in names and "decoded with the statistics of these demonstrations" in names
