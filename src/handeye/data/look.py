"""`handeye data stats` and `handeye data index`: what a set holds, in figures and as a list."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict

import numpy as np
from jaxtyping import Float

from handeye.console import say, table
from handeye.conventions.gripper import Gripper, convert
from handeye.data.config import IndexConfig, StatsConfig
from handeye.data.source import EpisodeRef, Source, open_source
from handeye.data.statistics import NAMES, Statistics, VectorStatistics, measure
from handeye.records import write_bytes, write_json


def stats(config: StatsConfig) -> Statistics:
    source = open_source(config.root)
    found = measure(_vectors(source, config))
    entry = {config.name or config.root.resolve().name: found.to_json()}
    if config.out is not None:
        write_json(config.out, entry)
    if config.json:
        print(json.dumps(entry, indent=2, sort_keys=True))  # noqa: T201 - JSON for another program, not for a person
        return found
    say(f"{config.root}: {found.episodes} episodes, {found.steps} steps")
    for name, vector in (("action", found.action), ("proprio", found.proprio)):
        table(name, ["", *NAMES], _rows(vector))
    return found


def index(config: IndexConfig) -> None:
    source = open_source(config.root)
    lines = [json.dumps(asdict(ref), sort_keys=True) for ref in source.episodes]
    if config.out is not None:
        write_bytes(config.out, "".join(f"{line}\n" for line in lines).encode())
    if config.json:
        print("\n".join(lines))  # noqa: T201 - JSON for another program, not for a person
        return
    episodes: Counter[tuple[str, str]] = Counter()
    steps: Counter[tuple[str, str]] = Counter()
    for ref in source.episodes:
        episodes[ref.task, ref.prompt] += 1
        steps[ref.task, ref.prompt] += ref.length
    rows = [[prompt, task, count, steps[task, prompt]] for (task, prompt), count in episodes.items()]
    table(_described(source), ["sentence", "task", "episodes", "steps"], rows)
    say(f"{len(source.episodes)} episodes, {sum(steps.values())} steps")


def _described(source: Source) -> str:
    size = source.specs.image
    return f"{source.root}: {source.stored.format} {source.stored.version}, {size.height} x {size.width}"


def _vectors(
    source: Source, config: StatsConfig
) -> Iterator[tuple[Float[np.ndarray, "N A"], Float[np.ndarray, "N S"]]]:
    for ref in source.episodes:
        actions, proprio = source.stored_vectors(ref) if config.as_stored else _aligned(source, ref)
        if config.gripper == "openvla":
            actions = np.array(actions, np.float64)
            clipped = np.clip(actions[:, -1], 0, 1)  # openvla oxe/transforms.py: libero_dataset_transform
            actions[:, -1] = convert(clipped, source=Gripper.ZERO_ONE_CLOSE, target=Gripper.ZERO_ONE_OPEN)
        yield actions, proprio


def _aligned(source: Source, ref: EpisodeRef) -> tuple[np.ndarray, np.ndarray]:
    episode = source.load(ref, images=False)
    return episode.actions, episode.proprio


def _rows(vector: VectorStatistics) -> list[list[str]]:
    return [[str(i), *(f"{getattr(vector, name)[i]:.4f}" for name in NAMES)] for i in range(len(vector.mean))]
