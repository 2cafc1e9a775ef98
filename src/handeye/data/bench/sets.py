"""The same episodes in every format, as files: what the sides of the benchmark read."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from handeye.console import progress
from handeye.data.bench.synthetic import Maker
from handeye.data.hdf5.writer import Hdf5Writer
from handeye.data.lerobot.write import LeRobotWriter
from handeye.data.rlds.write import RldsWriter
from handeye.data.source import Writer, open_source
from handeye.errors import UserError
from handeye.types import Episode

LENGTH = 130
"""Steps of a made-up episode; LIBERO's have 80 to 500."""

SETS = ("raw", "gzip", "rlds", "png", "av1", "h264")
ABOUT = {
    "raw": "HDF5 raw",
    "gzip": "HDF5 gzip",
    "rlds": "RLDS JPEG",
    "png": "LeRobot PNG",
    "av1": "LeRobot AV1",
    "h264": "LeRobot H.264",
}
"""HDF5 as LIBERO publishes it and as we write it; LeRobot 3.0."""


@dataclass(frozen=True)
class Sets:
    folder: Path
    steps: int
    episodes: int
    size: int
    """Of their pictures."""

    def path(self, name: str) -> Path:
        return self.folder / name

    def megabytes(self, name: str) -> float:
        files = open_source(self.path(name)).files
        return sum(path.stat().st_size for path in files) / 1e6


def prepare(folder: Path, root: Path | None, episodes: int, names: Sequence[str]) -> Sets:
    """`root`: some of its episodes, evenly; None: made-up ones."""
    writers = {name: _writer(name) for name in SETS if name in names}
    parts: dict[str, list[Path]] = {name: [] for name in writers}
    size = steps = count = 0
    with progress("writing the same episodes in every format", len(writers) * episodes) as advance:
        for number, episode in enumerate(_episodes(root, episodes)):
            size, steps, count = episode.images["agentview"].shape[1], steps + len(episode), count + 1
            for name, writer in writers.items():
                part = folder / "parts" / name / str(number)
                writer.encode(episode, part)
                parts[name].append(part)
                advance()
    for name, writer in writers.items():
        writer.assemble(parts[name], folder / name)
        shutil.rmtree(folder / "parts" / name)
    found = Sets(folder, steps, count, size)
    _require_same_order(found, list(writers))
    return found


def _writer(name: str) -> Writer:
    if name in ("raw", "gzip"):
        return Hdf5Writer(packed=name == "gzip")
    if name == "rlds":
        return RldsWriter(name="bench")
    return LeRobotWriter(version="v3.0", images=name, keys="lerobot")  # type: ignore[arg-type]


def _episodes(root: Path | None, count: int) -> Iterator[Episode]:
    """In the order that every format keeps: by task, then as they come."""
    if root is None:
        maker = Maker(tasks=min(2, count))
        yield from sorted((maker.make(number, LENGTH) for number in range(count)), key=lambda episode: episode.task)
        return
    source = open_source(root)
    refs = source.episodes
    chosen = [refs[place * len(refs) // count] for place in range(min(count, len(refs)))]
    yield from (source.load(ref) for ref in sorted(chosen, key=lambda ref: ref.task))


def _require_same_order(sets: Sets, names: Sequence[str]) -> None:
    """A row of one set must be the same step in another."""
    lengths = {name: [ref.length for ref in open_source(sets.path(name)).episodes] for name in names}
    if any(found != lengths[names[0]] for found in lengths.values()):
        raise UserError(
            "The formats keep these episodes in different orders.",
            why="; ".join(f"{name}: {found}" for name, found in lengths.items()),
            fix="use a set whose tasks lie in one folder, or --make",
        )
