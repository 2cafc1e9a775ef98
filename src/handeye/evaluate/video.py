"""Frames of an episode -> a video of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from handeye.film import encode
from handeye.types import EpisodeId, Observation

CAMERA = "agentview"
EVERY = 2
"""Steps per frame: at 20 steps per second of simulated time, 10 frames per second, which is enough to see why."""

FRAMES_PER_SECOND = 10


class Film:
    """Collects what one camera saw during an episode."""

    def __init__(self) -> None:
        self.frames: list[UInt8[np.ndarray, "H W 3"]] = []

    def add(self, observation: Observation) -> None:
        self.frames.append(observation.images[CAMERA])

    def encoded(self) -> bytes:
        return encode(self.frames, frames_per_second=FRAMES_PER_SECOND)


def path(out: Path, episode: EpisodeId) -> Path:
    return out / "videos" / f"{episode.key.replace('/', '_')}.mp4"
