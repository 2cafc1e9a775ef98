"""Demonstrations -> batches: an index of episodes, frames encoded once and kept as contiguous arrays, exact shuffling.

Frames go through the pipeline's encode steps when they are loaded, so that a batch is a few fancy-index look-ups. Where
they do not fit in memory they live in a memory-mapped file, made once and found again by its content.

Array names of a batch: those of `Pipeline.encode`, and `actions` float32 (B, T, A), `valid` bool (B, T).
"""

from __future__ import annotations

import copy
import hashlib
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Integer

from handeye import console
from handeye.conventions import libero
from handeye.conventions.spec import Specs
from handeye.data.libero_hdf5 import find_files, index_file, read_demo
from handeye.data.pipeline import Pipeline
from handeye.data.statistics import Statistics, measure
from handeye.errors import UserError
from handeye.records import read_json, sha256_file, sha256_json, write_json
from handeye.types import Episode


@dataclass(frozen=True, kw_only=True)
class EpisodeRef:
    """Where one demonstration is."""

    id: str
    """Path of its file below the root without `_demo.hdf5`, and its name there: `libero_goal/turn_on_the_stove/demo_3`.
    """

    task: str
    """The id without the demonstration's name."""

    prompt: str
    length: int
    """Steps of the episode that `Demonstrations.load` returns."""

    file: Path
    demo: str


class Demonstrations:
    """Every demonstration under a folder, read when asked for. `episodes` is sorted by file, then by number."""

    def __init__(self, root: Path) -> None:
        indexed = [(path, index_file(path)) for path in find_files(root)]
        for path, index in indexed:
            for warning in index.warnings:
                console.warn(f"{path}: {warning}")
        if len(sizes := {index.image_size for _, index in indexed}) > 1:
            raise UserError(
                f"The demonstrations in {root} have images of different sizes.",
                why=", ".join(f"{h}x{w}" for h, w in sorted(sizes)),
                fix="keep each size in a folder of its own",
            )
        height, width = sizes.pop()
        image = replace(libero.IMAGE, height=height, width=width)
        self.specs = Specs(action=libero.ACTION, image=image, proprio=libero.PROPRIO)
        base = root if root.is_dir() else root.parent
        self.episodes: tuple[EpisodeRef, ...] = tuple(
            EpisodeRef(
                id=f"{(task := (path.relative_to(base).parent / index.task).as_posix())}/{name}",
                task=task,
                prompt=index.prompt,
                length=rows - (index.observed == "after"),
                file=path,
                demo=name,
            )
            for path, index in indexed
            for name, rows in index.demos
        )
        if len(tasks := [index.task for _, index in indexed]) != len({ref.task for ref in self.episodes}):
            raise UserError(
                f"Two files in {root} are of the same task.",
                why="with and without _demo in their names: " + ", ".join(sorted(tasks)),
                fix="take one of them away, or put it into a folder of its own",
            )

    def __len__(self) -> int:
        return len(self.episodes)

    def only(self, episodes: Sequence[EpisodeRef]) -> Demonstrations:
        """The same folder, fewer episodes."""
        if not episodes:
            raise ValueError("demonstrations without an episode")
        chosen = copy.copy(self)
        chosen.episodes = tuple(episodes)
        return chosen

    def load(self, ref: EpisodeRef) -> Episode:
        record = read_demo(ref.file, ref.demo)
        return record.episode(ref.id, ref.prompt, {"file": str(ref.file), "demo": ref.demo, **record.info})

    def vectors(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """(actions, proprio) of each episode, without its images."""
        for ref in self.episodes:
            episode = read_demo(ref.file, ref.demo, images=False).episode(ref.id, ref.prompt, {})
            yield episode.actions, episode.proprio

    def statistics(self) -> Statistics:
        return measure(self.vectors())

    def digest(self) -> str:
        """Of every episode's id and prompt and its file's bytes: what a checkpoint says it was trained on."""
        files = {ref.file: sha256_file(ref.file) for ref in self.episodes}
        return sha256_json([[ref.id, ref.prompt, files[ref.file]] for ref in self.episodes])

    def split(self, held_out: float, seed: int) -> tuple[Demonstrations, Demonstrations | None]:
        """(train, validation), whole demonstrations, the same share of every task: `held_out` rounded, at least one and
        never all. What is held out of one task does not depend on which other tasks there are. None where it is 0."""
        if not 0 <= held_out < 1:
            raise UserError(f"A share of {held_out} cannot be held out.", fix="give a number from 0 up to below 1")
        if held_out == 0:
            return self, None
        by_task: dict[str, list[EpisodeRef]] = {}
        for ref in self.episodes:
            by_task.setdefault(ref.task, []).append(ref)
        if single := [task for task, refs in by_task.items() if len(refs) < 2]:
            raise UserError(
                f"No demonstration of '{single[0]}' can be held out.",
                why="it has only one",
                fix="record more demonstrations, or hold out nothing",
            )
        held: set[str] = set()
        for task, refs in by_task.items():
            count = min(max(round(held_out * len(refs)), 1), len(refs) - 1)
            key = int.from_bytes(hashlib.sha256(task.encode()).digest()[:4], "little")
            order = _rng(seed, key).permutation(len(refs))
            held |= {refs[index].id for index in order[:count]}
        return (
            self.only([ref for ref in self.episodes if ref.id not in held]),
            self.only([ref for ref in self.episodes if ref.id in held]),
        )


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
        per_step = {name: value[0] for name, value in first.items() if name != "prompt"}
        self.bytes = sum(value.nbytes for value in per_step.values()) * len(self.ends)
        if cache is None and self.bytes > memory_gb * 1e9:
            raise UserError(
                f"The encoded frames need {self.bytes / 1e9:.1f} GB; {memory_gb:g} GB are allowed.",
                why=f"{len(self.ends)} steps of {self.bytes // len(self.ends)} bytes",
                fix="allow more memory, name a cache folder on a disk, or use smaller images",
            )
        self.prompts = np.zeros((len(lengths), *first["prompt"].shape), first["prompt"].dtype)
        self.actions = np.zeros((len(self.ends), demos.specs.action.width), np.float32)
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
        batch["prompt"] = self.prompts[self.episode_of[indices]]
        batch["actions"] = self.actions[np.minimum(rows_BT, self.ends[indices, None] - 1)]
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
                self.prompts[number] = encoded.pop("prompt")
                self.actions[rows] = self.pipeline.targets(episode.actions)
                yield rows, encoded
                advance()

    def _open_cache(self, cache: Path, per_step: Mapping[str, np.ndarray]) -> None:
        """A folder of one .npy per array, named by content, that appears when it is complete."""
        identity = {"demonstrations": self.demos.digest(), "pipeline": self.pipeline.to_json(), "bytes": self.bytes}
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
        self.prompts, self.actions = np.load(folder / "prompt.npy"), np.load(folder / "actions.npy")

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
        np.save(part / "prompt.npy", self.prompts)
        np.save(part / "actions.npy", self.actions)


class Batches:
    """Endless training batches. In each epoch every sample comes exactly once, in an order that depends on the seed and
    the epoch alone; a batch may reach into the next epoch. Restored from `state()` it goes on to the bit."""

    def __init__(self, samples: Samples, batch: int, seed: int) -> None:
        if batch < 1:
            raise UserError(f"A batch of {batch} samples is not possible.", fix="use at least 1")
        self.samples, self.size, self.seed = samples, batch, seed
        self.epoch, self.position = 0, 0
        self._order = self._shuffled()

    def next(self) -> dict[str, np.ndarray]:
        """The next batch, augmented as the pipeline says. Its randomness is a function of where it is."""
        rng = _rng(self.seed, 1, self.epoch, self.position)
        return self.samples.pipeline.augment(self.samples.batch(self._take()), rng)

    def state(self) -> dict[str, int]:
        return {"epoch": self.epoch, "position": self.position, "seed": self.seed, "samples": len(self.samples)}

    def restore(self, state: Mapping[str, Any]) -> None:
        here = self.state()
        if differing := [name for name in ("seed", "samples") if state.get(name) != here[name]]:
            name = differing[0]
            raise UserError(
                "Training cannot go on from that position in the data.",
                why=f"{name}: {here[name]} here, {state.get(name)} there",
                fix="use the same demonstrations, split and seed, or start a new run",
            )
        self.epoch, self.position = int(state["epoch"]), int(state["position"])
        self._order = self._shuffled()

    def _take(self) -> Integer[np.ndarray, "B"]:
        taken: list[np.ndarray] = []
        missing = self.size
        while missing:
            if self.position == len(self._order):
                self.epoch, self.position = self.epoch + 1, 0
                self._order = self._shuffled()
            part = self._order[self.position : self.position + missing]
            taken.append(part)
            self.position += len(part)
            missing -= len(part)
        return np.concatenate(taken)

    def _shuffled(self) -> Integer[np.ndarray, "N"]:
        return _rng(self.seed, 0, self.epoch).permutation(len(self.samples))


def _rng(seed: int, *where: int) -> np.random.Generator:
    if seed < 0:
        raise UserError(f"{seed} is not a seed.", fix="use 0 or more")
    return np.random.default_rng([seed, *where])
