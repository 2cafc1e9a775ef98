"""At what speed do verify and convert run? Beside the codec alone, on the same pictures, in one run.

    python recipes/data_speed.py --rounds 3 --episodes 24

The verb runs as a program of its own with one worker; the codec runs over pictures that lie in memory. They take
turns, and what counts is processor time, less what starting the program takes (`handeye data index`). Ratios are
medians of the rounds' ratios: 1 would be a verb that does nothing but decode and encode. Files are in the page cache,
so that disks are not measured.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable
from pathlib import Path

from handeye.data import pictures
from handeye.data.bench.synthetic import Maker
from handeye.data.hdf5.writer import Hdf5Writer
from handeye.data.lerobot.write import LeRobotWriter
from handeye.data.rlds.write import RldsWriter

LENGTH = 100
"""Steps of an episode."""

GZIP = 4
"""The level of our HDF5 files (data/hdf5/write.py)."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--episodes", type=int, default=24)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="data-speed-") as made:
        folder = Path(made)
        frames = make(folder, asked.episodes)
        jpegs, pngs = [pictures.encode_jpeg(each) for each in frames], [pictures.encode_png(each) for each in frames]

        def unjpeg(number: int) -> object:
            return pictures.decode(jpegs[number], "a picture")

        def unpng(number: int) -> object:
            return pictures.decode(pngs[number], "a picture")

        def jpeg(number: int) -> object:
            return pictures.encode_jpeg(frames[number])

        def png(number: int) -> object:
            return pictures.encode_png(frames[number])

        def packed(number: int) -> object:
            return zlib.compress(frames[number].tobytes(), GZIP)

        def copied(number: int) -> object:
            return frames[number].copy()

        pairs: list[tuple[str, list[str], str, list[Callable[[int], object]]]] = [
            ("verify RLDS", ["verify", "rlds"], "decoding JPEG", [unjpeg]),
            ("verify LeRobot PNG", ["verify", "png"], "decoding PNG", [unpng]),
            ("verify HDF5 raw", ["verify", "raw"], "copying the pixels", [copied]),
            ("convert HDF5 raw -> RLDS", ["raw", "rlds"], "encoding JPEG", [jpeg]),
            ("convert RLDS -> LeRobot PNG", ["rlds", "lerobot"], "decoding JPEG, encoding PNG", [unjpeg, png]),
            ("convert RLDS -> HDF5 gzip", ["rlds", "hdf5"], "decoding JPEG, packing", [unjpeg, packed]),
        ]
        found: dict[str, list[tuple[float, float]]] = {name: [] for name, *_ in pairs}
        for _ in range(asked.rounds):
            for name, words, _floor, work in pairs:
                began = time.process_time()
                for number in range(len(frames)):
                    for step in work:
                        step(number)
                alone = time.process_time() - began
                found[name].append((run(folder, words) - run(folder, ["index", "rlds"]), alone))
        steps = asked.episodes * LENGTH
        say(f"{asked.episodes} episodes, {steps} steps, two cameras of 256 x 256; medians of {asked.rounds} rounds")
        say(f"{'':30} {'ms/step':>8}  {'alone':>7}  {'times':>6}")
        for name, _, floor, _work in pairs:
            verb, alone = (statistics.median(values) for values in zip(*found[name], strict=True))
            times = statistics.median(a / b for a, b in found[name])
            say(f"{name:30} {1e3 * verb / steps:8.2f}  {1e3 * alone / steps:7.2f}  {times:6.1f}  {floor}")


def make(folder: Path, episodes: int) -> list:  # type: ignore[type-arg]
    """The same episodes in three formats; returns their pictures."""
    maker, frames = Maker(tasks=4), []
    writers = {
        "raw": Hdf5Writer(packed=False), "rlds": RldsWriter(name="speed"),
        "png": LeRobotWriter(version="v3.0", images="png", keys="lerobot"),
    }  # fmt: skip
    parts: dict[str, list[Path]] = {name: [] for name in writers}
    for number in sorted(range(episodes), key=lambda number: number % 4):
        episode = maker.make(number, LENGTH)
        frames += [picture for images in episode.images.values() for picture in images]
        for name, writer in writers.items():
            part = folder / "parts" / name / str(number)
            writer.encode(episode, part)
            parts[name].append(part)
    for name, writer in writers.items():
        writer.assemble(parts[name], folder / name)
    shutil.rmtree(folder / "parts")
    return frames


def run(folder: Path, words: list[str]) -> float:
    """Seconds of the processor that the verb took, children included."""
    out = folder / "out"
    verb = [sys.executable, "-m", "handeye.cli", "data"]
    if words[0] == "verify":
        command = [*verb, "verify", str(folder / words[1]), "--suite", "none", "--workers", "1"]
    elif words[0] == "index":
        command = [*verb, "index", str(folder / words[1])]
    else:
        command = [*verb, "convert", str(folder / words[0]), str(out), "--to", words[1], "--workers", "1"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HANDEYE_HOME": str(folder / "home")}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    assert process.stderr is not None
    errors = process.stderr.read()
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in (0, 1):
        sys.exit(errors.decode())
    shutil.rmtree(out, ignore_errors=True)
    return used.ru_utime + used.ru_stime


def say(*words: object) -> None:
    print(*words, flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
