"""All actions and proprioception of a set, episode after episode: small beside the pictures, and needed everywhere.

Of a large set they lie in memory-mapped files under HANDEYE_HOME, made once and found again by the set's content: the
next training run reads of it only what it touches, and several processes share that.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64

from handeye import console
from handeye.data.loading.digests import LARGE
from handeye.data.loading.kept import CannotKeepError, Kind, keep, mapped
from handeye.data.source import EpisodeRef, Source
from handeye.paths import home


@dataclass(frozen=True)
class Vectors:
    """Rows of both belong together. float64 holds whatever the files do."""

    actions: Float64[np.ndarray, "R A"]
    proprio: Float64[np.ndarray, "R S"]
    firsts: dict[str, int]
    """Episode id -> its first row."""

    folder: Path | None = None
    """Where they are mapped from."""

    def __reduce__(self) -> tuple[Any, ...]:
        if self.folder is None:
            return Vectors, (self.actions, self.proprio, self.firsts)
        kinds = {
            name: Kind(part.dtype, part.shape) for name, part in (("actions", self.actions), ("proprio", self.proprio))
        }
        return _mapped, (self.folder, kinds, self.firsts)  # another process maps the same files

    def of(self, ref: EpisodeRef) -> tuple[Float64[np.ndarray, "T A"], Float64[np.ndarray, "T S"]]:
        rows = slice(self.firsts[ref.id], self.firsts[ref.id] + ref.length)
        return self.actions[rows], self.proprio[rows]


def read_vectors(source: Source, digest: Callable[[], str]) -> Vectors:
    """`digest`: of the whole set's content; asked for only where it is large."""
    firsts, rows = {}, 0
    for ref in source.episodes:
        firsts[ref.id] = rows
        rows += ref.length

    def make(number: int) -> dict[str, np.ndarray]:
        episode = source.load(source.episodes[number], images=False)
        return {"actions": episode.actions, "proprio": episode.proprio}

    kinds = {
        "actions": Kind(np.dtype(np.float64), (rows, source.specs.action.width)),
        "proprio": Kind(np.dtype(np.float64), (rows, source.specs.proprio.width)),
    }
    label = "reading actions and proprioception"
    if sum(path.stat().st_size for path in source.files) >= LARGE:
        try:
            identity = {"demonstrations": digest(), "rows": rows}
            place, episodes = home() / "vectors" / "set", len(source.episodes)
            folder = keep(place, identity, kinds, episodes=episodes, make=make, label=label)
            return _mapped(folder, kinds, firsts)
        except CannotKeepError as error:
            console.warn(f"the next run will read all vectors of {source.root} again: {error}")
    arrays = {name: np.empty(kind.shape, kind.dtype) for name, kind in kinds.items()}
    row = 0
    with console.progress(label, len(source.episodes)) as advance:
        for number, ref in enumerate(source.episodes):
            for name, part in make(number).items():
                arrays[name][row : row + ref.length] = part
            row += ref.length
            advance()
    return Vectors(arrays["actions"], arrays["proprio"], firsts)


def _mapped(folder: Path, kinds: dict[str, Kind], firsts: dict[str, int]) -> Vectors:
    arrays = mapped(folder, kinds)
    return Vectors(arrays["actions"], arrays["proprio"], firsts, folder)
