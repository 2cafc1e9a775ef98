"""Three ways to hold what the pipeline encodes of every step, with the same answer to the bit.

`memory`: encoded once, kept in memory. The fastest, where it fits.
`cache`:  encoded once into memory-mapped files, which every later run with the same episodes and encode steps finds
          again. As fast as memory while the files fit into it, as fast as the disk otherwise.
`stream`: encoded whenever it is asked for, from the set itself. Needs no room, and decodes pictures again every epoch.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Integer

from handeye import console
from handeye.console import size
from handeye.data.config import Way
from handeye.data.loading.demonstrations import Demonstrations
from handeye.data.loading.index import Index
from handeye.data.loading.kept import Kind, keep, mapped
from handeye.data.pipeline.pipeline import Pipeline
from handeye.distributed.line import Block
from handeye.errors import UserError

PROMPT = {"prompt", "prompt_mask"}
"""The same in every step of an episode, unless the state is part of it."""

SPARE = 0.8
"""Of the memory that is free, the largest part that is taken without being asked to."""


@runtime_checkable
class Frames(Protocol):
    def take(self, episodes: Integer[np.ndarray, "B"], rows: Integer[np.ndarray, "B"]) -> dict[str, np.ndarray]:
        """Of each of these rows (of the index), which lie in these episodes, all that the pipeline encodes. Copies."""
        ...


@dataclass(frozen=True)
class Encoder:
    """Demonstrations -> encoded arrays."""

    demos: Demonstrations
    pipeline: Pipeline
    index: Index

    @cached_property
    def first(self) -> dict[str, np.ndarray]:
        """The first step, to know names, types and shapes from."""
        return self.steps(0, np.zeros(1, np.int64))

    @property
    def fixed(self) -> frozenset[str]:
        """What an episode has one of."""
        return frozenset(name for name, value in self.first.items() if name in PROMPT and value.ndim == 1)

    @property
    def kinds(self) -> dict[str, Kind]:
        """Of all there is: a row for every step, or for every episode where that is enough."""
        steps, episodes = int(self.index.stops[-1]), len(self.index.stops)
        return {
            name: Kind(value.dtype, (episodes, *value.shape) if name in self.fixed else (steps, *value.shape[1:]))
            for name, value in self.first.items()
        }

    def whole(self, number: int) -> dict[str, np.ndarray]:
        """The rows of one episode."""
        encoded = self.pipeline.encode_episode(self.demos.load(self.demos.episodes[number]))
        return {name: value[None] if name in self.fixed else value for name, value in encoded.items()}

    def steps(self, number: int, steps: Integer[np.ndarray, "n"]) -> dict[str, np.ndarray]:
        """Some steps of one episode; what it has one of without an axis for them."""
        ref = self.demos.episodes[number]
        images = self.demos.source.frames(ref, steps.tolist())
        return self.pipeline.encode_frames(images, self.demos.vectors().of(ref)[1][steps], ref.prompt)


class Kept:
    """Arrays in memory, or mapped into it."""

    def __init__(self, arrays: Mapping[str, np.ndarray], fixed: frozenset[str]) -> None:
        self.arrays, self.fixed = arrays, fixed

    def take(self, episodes: Integer[np.ndarray, "B"], rows: Integer[np.ndarray, "B"]) -> dict[str, np.ndarray]:
        return {
            name: np.asarray(array[episodes if name in self.fixed else rows]) for name, array in self.arrays.items()
        }


class InMemory(Kept):
    """`block`: where the arrays lie, if other processes are to see them."""

    def __init__(self, kinds: Mapping[str, Kind], fixed: frozenset[str], block: Block | None = None) -> None:
        arrays, start = {}, 0
        for name, kind in kinds.items():
            if block is None:
                arrays[name] = np.empty(kind.shape, kind.dtype)
            else:
                count = kind.bytes // kind.dtype.itemsize
                arrays[name] = np.frombuffer(block.bytes, kind.dtype, count, start).reshape(kind.shape)
                start += _room(kind)
        super().__init__(arrays, fixed)
        self._kinds, self._block = kinds, block

    def __reduce__(self) -> tuple[Any, ...]:
        if self._block is None:
            raise ValueError("these frames are in one process's own memory: make the samples with share=True")
        return InMemory, (self._kinds, self.fixed, self._block)


class Cached(Kept):
    """In a folder that `kept.keep` made."""

    def __init__(self, folder: Path, kinds: Mapping[str, Kind], fixed: frozenset[str]) -> None:
        super().__init__(mapped(folder, kinds), fixed)
        self._folder, self._kinds = folder, kinds

    def __reduce__(self) -> tuple[Any, ...]:
        return Cached, (self._folder, self._kinds, self.fixed)  # another process maps the same files


@dataclass(frozen=True)
class Streamed:
    encoder: Encoder

    def take(self, episodes: Integer[np.ndarray, "B"], rows: Integer[np.ndarray, "B"]) -> dict[str, np.ndarray]:
        kinds, firsts = self.encoder.kinds, self.encoder.index.firsts
        out = {name: np.empty((len(rows), *kind.shape[1:]), kind.dtype) for name, kind in kinds.items()}
        for number in np.unique(episodes).tolist():
            here = np.flatnonzero(episodes == number)
            for name, value in self.encoder.steps(number, rows[here] - firsts[number]).items():
                out[name][here] = value
        return out


def hold(
    encoder: Encoder, way: Way = "auto", *, memory_gb: float, cache: Path | None = None, share: bool = False
) -> Frames:
    """`memory_gb`: largest size in memory (1e9 bytes). `cache`: the folder for memory-mapped ones. `share`: let
    processes that are spawned see those in memory."""
    kinds = encoder.kinds
    need = sum(kind.bytes for kind in kinds.values())
    if way == "cache" and cache is None:
        raise UserError("Frames cannot be cached nowhere.", fix="name a folder with --cache")
    if way == "memory" and need > memory_gb * 1e9:
        steps = int(encoder.index.stops[-1])
        raise UserError(
            f"The encoded frames need {need / 1e9:.1f} GB; {memory_gb:g} GB are allowed.",
            why=f"{steps} steps of {need // steps} bytes",
            fix="allow more memory (--memory-gb), name a --cache folder on a disk, stream them, or use smaller images",
        )
    why = ""
    if way == "auto":
        way, why = _choose(need, memory_gb, cache)
    if way == "stream":
        streamed = Streamed(encoder)
        why = why and f"{why}; {_pace(streamed)}"
    if why:
        console.say(f"frames of {len(encoder.demos)} demonstrations: {way}, {why}")
    if way == "stream":
        return streamed
    if way == "cache":
        assert cache is not None
        identity = {"demonstrations": encoder.demos.digest(), "encode": encoder.pipeline.to_json()["encode"]}
        folder = keep(
            cache / "frames", identity, kinds, episodes=len(encoder.demos), make=encoder.whole, label="caching frames"
        )
        return Cached(folder, kinds, encoder.fixed)
    held = InMemory(kinds, encoder.fixed, Block(sum(map(_room, kinds.values()))) if share else None)
    with console.progress("reading demonstrations", len(encoder.demos)) as advance:
        at = dict.fromkeys(kinds, 0)
        for number in range(len(encoder.demos)):
            for name, rows in encoder.whole(number).items():
                held.arrays[name][at[name] : at[name] + len(rows)] = rows
                at[name] += len(rows)
            advance()
    return held


def _choose(need: int, memory_gb: float, cache: Path | None) -> tuple[Way, str]:
    """What `auto` is, and why."""
    if cache is not None:
        return "cache", f"since {cache} is named for it ({size(need)})"
    free = _free_memory()
    if need > memory_gb * 1e9:
        return "stream", f"since in memory they would need {size(need)}, and --memory-gb allows {memory_gb:g}"
    if free is not None and need > SPARE * free:
        return "stream", f"since in memory they would need {size(need)}, and {size(free)} are free"
    return "memory", f"{size(need)} of the {memory_gb:g} GB that --memory-gb allows"


def _pace(streamed: Streamed) -> str:
    """What a streamed sample costs here: nobody should find out by waiting."""
    index = streamed.encoder.index
    episodes = np.linspace(0, len(index.lengths) - 1, 4).astype(np.int64)
    rows = index.firsts[episodes] + index.lengths[episodes] // 2
    streamed.take(episodes, rows)
    began = time.perf_counter()
    streamed.take(episodes, rows)
    return f"{1e3 * (time.perf_counter() - began) / len(rows):.1f} ms each (a --cache folder makes them once)"


def _room(kind: Kind) -> int:
    """In a block: each array begins on a cache line."""
    return -(-kind.bytes // 64) * 64


def _free_memory() -> int | None:
    """Bytes that may be used without anything being pushed out; None where the system does not say."""
    try:
        rows = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
        return int(rows["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError, IndexError):
        return None
