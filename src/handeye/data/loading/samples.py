"""Demonstrations -> samples: frames encoded once and kept as contiguous arrays, so that a batch is a few look-ups.

Where the frames do not fit in memory they live in a memory-mapped file, made once and found again by its content.

Array names of a batch: those of `Pipeline.encode`, and `actions` float32 (B, T, A), `valid` bool (B, T).
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Integer

from handeye import console
from handeye.data.loading.demonstrations import Demonstrations
from handeye.data.pipeline.pipeline import Pipeline
from handeye.errors import UserError
from handeye.records import read_json, sha256_json, write_json

PROMPT = {"prompt", "prompt_mask"}
"""The same in every step of an episode, unless the state is part of it."""


class Samples:
    """One sample per step of every episode: what was seen there, and the next `chunk` actions as model targets. Where
    the episode ends sooner its last action is repeated and `valid` is False: no start is left out."""

    def __init__(
        self,
        demos: Demonstrations,
        pipeline: Pipeline,
        chunk: int,
        *,
        memory_gb: float = 4.0,
        cache: Path | None = None,
    ) -> None:
        """`memory_gb`: largest size of the encoded frames in memory (GB = 1e9 bytes). `cache`: a folder for
        memory-mapped frames instead, which the next run with the same episodes and encode steps finds again."""
        lengths = np.array([ref.length for ref in demos.episodes])
        self.demos, self.pipeline, self.chunk = demos, pipeline, chunk
        self.ends = np.repeat(np.cumsum(lengths), lengths)
        """Per sample: the row after its episode's last."""
        self.episode_of = np.repeat(np.arange(len(lengths)), lengths)
        first = pipeline.encode_episode(demos.load(demos.episodes[0]))
        shared = {name: value for name, value in first.items() if name in PROMPT and value.ndim == 1}
        per_step = {name: value[0] for name, value in first.items() if name not in shared}
        self.bytes = sum(value.nbytes for value in per_step.values()) * len(self.ends)
        if cache is None and self.bytes > memory_gb * 1e9:
            raise UserError(
                f"The encoded frames need {self.bytes / 1e9:.1f} GB; {memory_gb:g} GB are allowed.",
                why=f"{len(self.ends)} steps of {self.bytes // len(self.ends)} bytes",
                fix="allow more memory, name a cache folder on a disk, or use smaller images",
            )
        self.prompts = {name: np.zeros((len(lengths), *v.shape), v.dtype) for name, v in shared.items()}
        """What an episode has one of."""
        self.actions = np.zeros((len(self.ends), demos.specs.action.width))
        self.proprio = np.zeros((len(self.ends), demos.specs.proprio.width), np.float32)
        """As demonstrated; a pipeline's targets may be relative to it."""
        self.frames: dict[str, np.ndarray] = {}
        if cache is not None:
            self._open_cache(cache, per_step)
            return
        self.frames = {name: np.zeros((len(self), *v.shape), v.dtype) for name, v in per_step.items()}
        for rows, encoded in self._encoded():
            for name, value in encoded.items():
                self.frames[name][rows] = value

    def __len__(self) -> int:
        return len(self.ends)

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        return {name: value[0] for name, value in self.batch(np.array([index])).items()}

    def batch(self, indices: Integer[np.ndarray, "B"]) -> dict[str, np.ndarray]:
        """These samples, not augmented."""
        rows_BT = indices[:, None] + np.arange(self.chunk)
        valid_BT: Bool[np.ndarray, "B T"] = rows_BT < self.ends[indices, None]
        batch = {name: np.asarray(frames[indices]) for name, frames in self.frames.items()}
        batch |= {name: rows[self.episode_of[indices]] for name, rows in self.prompts.items()}
        actions_BTA = self.actions[np.minimum(rows_BT, self.ends[indices, None] - 1)]
        batch["actions"] = self.pipeline.targets(actions_BTA, self.proprio[indices])
        batch["valid"] = valid_BT
        return batch

    def _encoded(self) -> Iterator[tuple[slice, dict[str, np.ndarray]]]:
        """Each episode's rows and its frames. Prompts and actions, which are small, are kept on the way."""
        with console.progress("reading demonstrations", len(self.demos)) as advance:
            start = 0
            for number, ref in enumerate(self.demos.episodes):
                episode = self.demos.load(ref)
                encoded = self.pipeline.encode_episode(episode)
                rows = slice(start, start := start + ref.length)
                for name, kept in self.prompts.items():
                    kept[number] = encoded.pop(name)
                self.actions[rows], self.proprio[rows] = episode.actions, episode.proprio
                yield rows, encoded
                advance()

    def _open_cache(self, cache: Path, per_step: Mapping[str, np.ndarray]) -> None:
        """A folder of one .npy per array, named by content, that appears when it is complete."""
        identity = {"demonstrations": self.demos.digest(), "encode": self.pipeline.to_json()["encode"], "bytes": self.bytes}
        folder = cache / f"frames-{sha256_json(identity)[:16]}"
        if not folder.is_dir():
            part = cache / f".{folder.name}.{os.getpid()}.part"
            try:
                self._write_cache(part, per_step)
                write_json(part / "manifest.json", identity)
                part.replace(folder)
            except OSError as error:
                if not folder.is_dir():  # else another process was faster, with the same content
                    raise UserError(
                        f"Could not write the frame cache {folder}.",
                        why=f"{error}; it needs {self.bytes / 1e9:.1f} GB",
                        fix="free some space, choose another cache folder, or use smaller images",
                    ) from error
            finally:
                shutil.rmtree(part, ignore_errors=True)
        if read_json(folder / "manifest.json", what="a frame cache's manifest") != identity:
            raise UserError(f"{folder} is not the cache that its name says.", fix=f"delete {folder}")
        self.frames = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in per_step}
        self.prompts = {name: np.load(folder / f"{name}.npy") for name in self.prompts}
        self.actions, self.proprio = (np.load(folder / f"demonstrated-{name}.npy") for name in ("actions", "proprio"))

    def _write_cache(self, part: Path, per_step: Mapping[str, np.ndarray]) -> None:
        """Written through files, not through the map: a disk that fills up is then an error and not a crash."""
        part.mkdir(parents=True)
        with ExitStack() as stack:
            files = {name: stack.enter_context((part / f"{name}.npy").open("wb")) for name in per_step}
            for name, value in per_step.items():
                header = {"descr": value.dtype.str, "fortran_order": False, "shape": (len(self), *value.shape)}
                np.lib.format.write_array_header_1_0(files[name], header)
            for _, encoded in self._encoded():
                for name, value in encoded.items():
                    files[name].write(np.ascontiguousarray(value).data)
        for name, kept in self.prompts.items():
            np.save(part / f"{name}.npy", kept)
        np.save(part / "demonstrated-actions.npy", self.actions)
        np.save(part / "demonstrated-proprio.npy", self.proprio)
