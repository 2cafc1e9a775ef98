"""The pictures of a data set: files in its folder, or members of tar shards, which are read where they lie."""

from __future__ import annotations

from bisect import bisect_left
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from handeye.data import pictures
from handeye.errors import UserError
from handeye.transfer import tars

FOLDER = "images/"
"""What questions put before a picture's name. A shard may hold it with this or without."""


class Store:
    """Nothing outside `root` is read, and nothing is unpacked. Shards are listed when the first picture is asked for
    that is not a file; what they list is kept in arrays, 50 bytes a picture, so that workers get it cheaply."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.shards = tuple(sorted(p for depth in ("*.tar", "*/*.tar") for p in root.glob(depth) if p.name[0] != "."))

    def read(self, path: str) -> bytes:
        """As it is stored. UserError where it is missing."""
        if file := self.file(path):
            return _read(file, 0, file.stat().st_size, str(file))
        if member := self._find(path):
            return _read(*member, f"{member[0]}: {path}")
        raise UserError(
            f"{self.root} has no picture {path}.",
            why=f"there is no such file, and none of {len(self.shards)} tar shards holds it",
            fix="fetch the pictures: `handeye fetch xvr`",
        )

    def decode(self, path: str) -> UInt8[np.ndarray, "h w 3"]:
        """RGB; transparency is dropped, as the reference does. UserError where the picture is missing or damaged, or
        larger than any of the set could be."""
        return pictures.decode(self.read(path), f"{self.root / path}", alpha="drop")

    def has(self, path: str) -> bool:
        return self.file(path) is not None or self._find(path) is not None

    def file(self, path: str) -> Path | None:
        """Where it is a file. UserError for a link that leads out of the data set."""
        file = self.root / path
        try:
            if not file.is_file():
                return None
        except OSError as error:  # a name too long for any system
            raise UserError(
                f"{self.root} has no picture {path:.80}.", why=error.strerror or "", fix="get the questions again"
            ) from None
        top = self.root / Path(path).parts[0]
        places = (self.root, top) if top.is_dir() else (self.root,)
        if not any((real := file.resolve()).is_relative_to(place.resolve()) for place in places):
            raise UserError(
                f"{file} is a link that leads out of the data set.",
                why=f"it leads to {real}",
                fix="put the picture itself there (`images` as a whole may be a link to another disk)",
            )
        return file

    def twin(self, path: str) -> bytes | None:
        """What a shard holds under the path of a file. None: nothing."""
        return _read(*member, f"{member[0]}: {path}") if (member := self._find(path)) and self.file(path) else None

    def _find(self, path: str) -> tuple[Path, int, int] | None:
        names, places = self._index
        wanted = path.encode()
        at = bisect_left(names, wanted)  # np.searchsorted copies all names when the wanted one is longer
        if at == len(names) or names[at] != wanted:
            return None
        shard, offset, size = places[at].tolist()
        return self.shards[shard], offset, size

    @cached_property
    def _index(self) -> tuple[np.ndarray, np.ndarray]:
        """Sorted names (bytes), and (shard, offset, size) of each."""
        found: dict[bytes, tuple[int, int, int]] = {}
        for number, shard in enumerate(self.shards):
            for member in listed(shard):
                name = member.name.removeprefix("./")
                name = name if "/" in name else FOLDER + name
                key = name.encode(errors="surrogateescape")  # tarfile's way with names that are not UTF-8
                if key in found:
                    raise UserError(
                        f"{shard} holds {name}, and so does {self.shards[found[key][0]]}.",
                        why="which of the two is meant cannot be known",
                        fix="take one of the shards away, or fetch them again",
                    )
                found[key] = (number, member.offset, member.size)
        names = sorted(found)
        return np.array(names, "S"), np.array([found[name] for name in names], np.int64)


def _read(file: Path, offset: int, size: int, where: str) -> bytes:
    if size > pictures.MOST_BYTES:
        raise UserError(
            f"{where} is not a usable picture.", why=f"it has {size} bytes", fix="fetch or make the data again"
        )
    with file.open("rb") as stream:
        stream.seek(offset)
        return stream.read(size)


def listed(shard: Path) -> list[tars.Member]:
    """UserError where the shard is damaged, cut off or compressed."""
    if (mode := tars.packing(shard)) != "r:":
        raise UserError(
            f"{shard} is compressed ({mode[2:]}).",
            why="pictures are read where they lie in it, which compression hides",
            fix=f"unpack it: `tar xf {shard.name}`",
        )
    try:
        return tars.members(shard)
    except tars.DAMAGES as error:
        raise UserError(f"{shard} cannot be used.", why=str(error), fix="fetch it again: `handeye fetch xvr`") from None
