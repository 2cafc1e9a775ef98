"""Which videos travel inside the page, and which are only linked."""

from __future__ import annotations

import base64
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from handeye.evaluate.results import EpisodeResult
from handeye.report.load import Run

ORDER = {"failure": 0, "error": 1, "success": 2}
"""What is embedded first when not everything fits: one learns more from a failure."""


@dataclass(kw_only=True)
class Shelf:
    """The videos of a page, by run and episode."""

    found: dict[tuple[int, str], dict[str, Any]]
    embedded: int = 0
    linked: int = 0


def shelve(runs: Sequence[Run], *, page: Path, limit: float) -> Shelf:
    """`limit`: megabytes of files (the page needs a third more: base64)."""
    shelf, left = Shelf(found={}), limit * 1e6
    films: list[tuple[int, EpisodeResult, Path]] = []
    for number, run in enumerate(runs):
        for result in run.results.values():
            if path := run.video(result.episode):
                films.append((number, result, path))
    for number, result, path in sorted(films, key=lambda film: ORDER[film[1].outcome]):
        size = path.stat().st_size
        if size <= left:
            left -= size
            shelf.embedded += 1
            video = {"data": base64.b64encode(path.read_bytes()).decode()}
        else:
            shelf.linked += 1
            video = {"href": quote(os.path.relpath(path, page.parent))}
        shelf.found[number, result.episode.key] = video
    return shelf
