"""What openpi looks for beside its weights, written as it writes it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from handeye.checkpoints.layouts.openpi import ASSETS, STATISTICS, TOKENIZER
from handeye.checkpoints.manifest import Manifest
from handeye.data.statistics import Statistics, VectorStatistics
from handeye.records import write_bytes, write_json

ASSET = "physical-intelligence/libero"
"""Where statistics go that come from elsewhere: the asset of openpi's LIBERO configurations."""

ROWS = ("mean", "std", "q01", "q99")


def write_assets(part: Path, manifest: Manifest) -> None:
    """Statistics and tokenizer, where openpi looks for the first and we for the second."""
    asset = manifest.provenance.get("asset") or f"{ASSETS}/{ASSET}/{STATISTICS}"
    write_json(part / asset, norm_stats(manifest.statistics))
    for vocabulary in manifest.pipeline.vocabularies():
        name = TOKENIZER if vocabulary.name.endswith(".model") else vocabulary.name
        write_bytes(part / name, vocabulary.content())


def norm_stats(statistics: Statistics) -> dict[str, Any]:
    """As openpi's norm_stats.json has them; what it has no place for is left out."""

    def rows(vector: VectorStatistics) -> dict[str, list[float]]:
        return {name: list(row) for name in ROWS if (row := getattr(vector, name)) is not None}

    return {"norm_stats": {"state": rows(statistics.proprio), "actions": rows(statistics.action)}}
