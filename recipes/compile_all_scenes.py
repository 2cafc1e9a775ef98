"""Compile every LIBERO scene into an empty cache, then read each again: how many there are, how long, how large.

Times are processor seconds, those of the compiling processes included, so that a busy machine does not change them.

    python recipes/compile_all_scenes.py [FOLDER]

FOLDER (default: a temporary one, deleted afterwards) gets the models. Fetched LIBERO files are needed.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

from handeye import console
from handeye.sim import libero, scene, suites

SUITES = ("libero_spatial", "libero_object", "libero_goal", "libero_10", "libero_90")


def main(folder: Path) -> None:
    scene.scene_cache = lambda: folder
    problems = [libero.problem(task) for suite in SUITES for task in suites.tasks(suite)]
    firsts, again, digests, warm = [], [], set(), []
    with console.progress("scenes", len(problems)) as advance:
        for problem in problems:
            start = _spent()
            found = scene.libero_scene(problem)
            (warm if found.digest in digests else firsts).append(_spent() - start)
            if found.digest not in digests:
                digests.add(found.digest)
                del found
                scene._last.clear()  # forget it, so that it is read from the disk
                start = _spent()
                found = scene.libero_scene(problem)
                again.append(_spent() - start)
            advance()
    sizes = [path.stat().st_size for path in folder.glob("*.mjb")]
    assert len(sizes) == len(digests) == len(firsts), "the cache is smaller than LIBERO"
    rows = [
        ("tasks", len(problems)),
        ("different models", len(digests)),
        ("compiled and kept, median (s)", f"{_median(firsts):.2f}"),
        ("read from the disk, median (s)", f"{_median(again):.2f}"),
        ("another task of a scene just used, median (s)", f"{_median(warm):.3f}"),
        ("smallest, largest (MB)", f"{min(sizes) / 1e6:.0f}, {max(sizes) / 1e6:.0f}"),
        ("all on disk (GB)", f"{sum(sizes) / 1e9:.2f}"),
    ]
    console.table("", ("LIBERO's scenes", ""), rows)


def _spent() -> float:
    return sum(os.times()[:4])


def _median(values: list[float]) -> float:
    return sorted(values)[len(values) // 2]


if __name__ == "__main__":
    if len(sys.argv) > 1:
        Path(sys.argv[1]).mkdir(parents=True, exist_ok=True)
        main(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as temporary:
            main(Path(temporary))
