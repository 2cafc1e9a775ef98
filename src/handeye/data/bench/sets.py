"""The same episodes in every format, as files: what the sides of the benchmark read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import h5py

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
    writers = {name: _writer(name) for name in SETS if name in names or name == "gzip"}
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
        if name != "raw":
            writer.assemble(parts[name], folder / name)
    if "raw" in names:
        _unpack(folder / "gzip", folder / "raw")
    found = Sets(folder, steps, count, size)
    _require_same_order(found, list(writers))
    return found


def _writer(name: str) -> Writer:
    if name in ("raw", "gzip"):
        return Hdf5Writer()
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


def _unpack(source: Path, target: Path) -> None:
    """The same files, as LIBERO's own are: not compressed."""
    target.mkdir(parents=True)
    for path in sorted(source.rglob("*.hdf5")):
        out = target / path.relative_to(source)
        out.parent.mkdir(parents=True, exist_ok=True)
        with h5py.File(path, "r") as packed, h5py.File(out, "w") as file:
            file.create_group("data").attrs.update(dict(packed["data"].attrs))

            def copy(name: str, found: h5py.Group | h5py.Dataset, file: h5py.File = file) -> None:
                if isinstance(found, h5py.Dataset):
                    file[f"data/{name}"] = found[()]
                else:
                    file.create_group(f"data/{name}")
                file[f"data/{name}"].attrs.update(dict(found.attrs))

            packed["data"].visititems(copy)


def _require_same_order(sets: Sets, names: Sequence[str]) -> None:
    """A row of one set must be the same step in another."""
    lengths = {}
    for name in names:
        if sets.path(name).exists():
            lengths[name] = [ref.length for ref in open_source(sets.path(name)).episodes]
    if any(found != lengths["gzip"] for found in lengths.values()):
        raise UserError(
            "The formats keep these episodes in different orders.",
            why="; ".join(f"{name}: {found}" for name, found in lengths.items()),
            fix="use a set whose tasks lie in one folder, or --make",
        )
