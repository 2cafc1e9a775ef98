"""Demonstrations -> batches: an index of episodes, frames encoded once and kept as contiguous arrays, exact shuffling.

Frames go through the pipeline's encode steps when they are loaded, so that a batch is a few fancy-index look-ups. Where
they do not fit in memory they live in a memory-mapped file, made once and found again by its content.

Array names of a batch: those of `Pipeline.encode`, and `actions` float32 (B, T, A), `valid` bool (B, T).
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator, Mapping, Sequence
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
from handeye.records import read_json, sha256_json, write_json
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

    def __len__(self) -> int:
        return len(self.episodes)

    def only(self, episodes: Sequence[EpisodeRef]) -> Demonstrations:
        """The same folder, fewer episodes."""
        if not episodes:
            raise ValueError("demonstrations without an episode")
        chosen = object.__new__(Demonstrations)
        chosen.specs, chosen.episodes = self.specs, tuple(episodes)
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
        """Of every episode's id, prompt, actions and proprioception: what a checkpoint says it was trained on."""
        found = [
            [ref.id, ref.prompt, hashlib.sha256(actions.tobytes() + proprio.tobytes()).hexdigest()]
            for ref, (actions, proprio) in zip(self.episodes, self.vectors(), strict=True)
        ]
        return sha256_json(found)

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
            order = np.random.default_rng([seed, key]).permutation(len(refs))
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
        if cache is None:
            self.frames = {n: np.zeros((len(self.ends), *v.shape), v.dtype) for n, v in per_step.items()}
            self._fill()
        else:
            self._fill_cache(cache, per_step)

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

    def _fill(self) -> None:
        start = 0
        with console.progress("reading demonstrations", len(self.demos)) as advance:
            for number, ref in enumerate(self.demos.episodes):
                episode = self.demos.load(ref)
                stop = start + ref.length
                encoded = self.pipeline.encode_episode(episode)
                self.prompts[number] = encoded.pop("prompt")
                self.actions[start:stop] = self.pipeline.targets(episode.actions)
                for name, value in encoded.items():
                    self.frames[name][start:stop] = value
                start = stop
                advance()

    def _fill_cache(self, cache: Path, per_step: Mapping[str, np.ndarray]) -> None:
        """One .npy per array in a folder named by content, complete when its manifest is there."""
        identity = {"demonstrations": self.demos.digest(), "pipeline": self.pipeline.to_json(), "bytes": self.bytes}
        folder = cache / f"frames-{sha256_json(identity)[:16]}"
        paths = {name: folder / f"{name}.npy" for name in (*per_step, "prompt", "actions")}
        if not (folder / "manifest.json").exists():
            folder.mkdir(parents=True, exist_ok=True)
            if (free := shutil.disk_usage(folder).free) < self.bytes:
                raise UserError(
                    f"The frame cache needs {self.bytes / 1e9:.1f} GB.",
                    why=f"{folder} has {free / 1e9:.1f} GB left",
                    fix="choose another cache folder, or smaller images",
                )
            made: dict[str, np.memmap] = {}
            for name, value in per_step.items():
                made[name] = np.lib.format.open_memmap(
                    paths[name], mode="w+", dtype=value.dtype, shape=(len(self), *value.shape)
                )
            self.frames = dict(made)
            self._fill()
            for array in made.values():
                array.flush()
            np.save(paths["prompt"], self.prompts)
            np.save(paths["actions"], self.actions)
            write_json(folder / "manifest.json", identity)
        elif read_json(folder / "manifest.json", what="a frame cache's manifest") != identity:
            raise UserError(f"{folder} is not the cache that its name says.", fix=f"delete {folder}")
        self.frames = {name: np.load(paths[name], mmap_mode="r") for name in per_step}
        self.prompts, self.actions = np.load(paths["prompt"]), np.load(paths["actions"])


class Batches:
    """Endless training batches. In each epoch every sample comes exactly once, in an order that depends on the seed and
    the epoch alone; a batch may reach into the next epoch. Restored from `state()` it goes on to the bit."""

    def __init__(self, samples: Samples, batch: int, seed: int) -> None:
        if batch < 1 or seed < 0:
            raise UserError(f"A batch of {batch} with the seed {seed} is not possible.", fix="use at least 1, and 0")
        self.samples, self.size, self.seed = samples, batch, seed
        self.epoch, self.position = 0, 0
        self._order = self._shuffled()

    def next(self) -> dict[str, np.ndarray]:
        """The next batch, augmented as the pipeline says. Its randomness is a function of where it is."""
        rng = np.random.default_rng([self.seed, 1, self.epoch, self.position])
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
        return np.random.default_rng([self.seed, 0, self.epoch]).permutation(len(self.samples))
