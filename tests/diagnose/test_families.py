"""A published folder is diagnosed as it lies. Its weights here are random, and that is what is found."""

from __future__ import annotations

from pathlib import Path

import pytest
from openvla_goldens import published

from handeye.data.source import open_source
from handeye.diagnose.diagnosis import diagnose
from handeye.serve.local import load_policy

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
