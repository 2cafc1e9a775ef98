"""The statistics that a published checkpoint's folder has, of several data sets: each may be the one that fits."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from handeye.data.statistics import Statistics, from_norm_stats
from handeye.errors import UserError
from handeye.policy.address import folder_and_options, is_folder
from handeye.records import read_json

OPENVLA, CONFIG = "dataset_statistics.json", "config.json"
OPENPI = "norm_stats.json"


def statistics(address: str) -> dict[str, Statistics]:
    """By the option that chooses them: `statistics=libero_goal` (OpenVLA), `asset=physical-intelligence/libero`
    (openpi). Empty where there is no choice, and for what is no folder. What cannot be read is left out: it cannot be
    chosen either."""
    if not is_folder(address):
        return {}
    folder = Path(folder_and_options(address)[0])
    found = {**_openvla(folder), **_openpi(folder)}
    return found if len(found) > 1 else {}


def _openvla(folder: Path) -> dict[str, Statistics]:
    own = _content(folder / OPENVLA)
    keys = own or _content(folder / CONFIG).get("norm_stats")
    found: dict[str, Statistics] = {}
    for key, value in keys.items() if isinstance(keys, Mapping) else ():
        try:
            found[f"statistics={key}"] = Statistics.from_json(value)
        except UserError:
            continue
    return found


def _openpi(folder: Path) -> dict[str, Statistics]:
    found: dict[str, Statistics] = {}
    for path in sorted((folder / "assets").rglob(OPENPI)):
        try:
            found[f"asset={path.parent.relative_to(folder / 'assets')}"] = from_norm_stats(_content(path))
        except UserError:
            continue
    return found


def _content(path: Path) -> dict[str, Any]:
    try:
        value = read_json(path, what="statistics") if path.is_file() else {}
    except UserError:
        return {}
    return value if isinstance(value, dict) else {}
