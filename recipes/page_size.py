"""How large a page of 2,000 episodes is, and how soon a browser shows it: videos inside, some linked, or beside it.

    python recipes/page_size.py [VIDEO.mp4]      # needs a Chromium; docs/report.md has the figures

Records are made up, as in the tests, in the layout of four LIBERO suites with ten tasks and fifty initial states. Every
episode has the video that is named, or one of a second of noise.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "plugins"))

import chromium
import numpy as np
from studies import drawn, write_run

from handeye.console import size, table
from handeye.evaluate import results, video
from handeye.film import encode
from handeye.report.config import ReportConfig
from handeye.report.run import run

SUITES = ("libero_spatial", "libero_object", "libero_goal", "libero_10")
WAYS: dict[str, dict[str, Any]] = {"40 MB inside": {}, "all inside": {"embed_mb": 1e6}, "--assets": {"assets": "site"}}
TIMES = """(() => {
  const loading = performance.getEntriesByType("navigation")[0];
  return [performance.getEntriesByName("first-contentful-paint")[0].startTime, loading.loadEventEnd];
})()"""
FAILED = "document.querySelector('button.cell.failure').click()"
PLAYS = "viewer.querySelector('video')?.currentTime > 0"


def main(film: bytes) -> None:
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        runs = tuple(_filmed(Path(folder) / suite, suite, film, seed) for seed, suite in enumerate(SUITES))
        for name, flags in WAYS.items():
            given = {flag: Path(folder) / value if flag == "assets" else value for flag, value in flags.items()}
            page = run(ReportConfig(runs=runs, out=Path(folder) / f"{len(rows)}.html", **given))
            with chromium.opened() as tab:
                tab.open(page)
                paint, loaded = tab.evaluate(TIMES)
                begun = time.monotonic()
                tab.evaluate(FAILED)
                tab.wait(PLAYS)
                plays = time.monotonic() - begun
                assert not tab.problems, tab.problems
            rows.append(
                [name, size(page.stat().st_size), f"{paint / 1000:.1f} s", f"{loaded / 1000:.1f} s", f"{plays:.1f} s"]
            )
    table(
        f"2,000 episodes, each with a video of {size(len(film))}",
        ["videos", "page", "first picture", "loaded", "a click plays after"],
        rows,
    )


def _filmed(folder: Path, suite: str, film: bytes, seed: int) -> Path:
    write_run(folder, drawn([0.95, 0.9, 0.8, 0.99, 1.0] * 2, 50, seed=seed), suite=suite)
    (folder / "videos").mkdir()
    for result in results.read(folder).values():
        video.path(folder, result.episode).write_bytes(film)
    return folder


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]).read_bytes())
    else:
        noise = np.random.default_rng(0).integers(0, 256, (10, 128, 128, 3), np.uint8)
        main(encode(list(noise), frames_per_second=10))
