"""What the recipes about serving serve: a policy whose answer depends on all that it is shown, so that a wrong answer
is noticed, and quick enough to be computed again by who asked."""

from __future__ import annotations

import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from handeye.conventions import libero
from handeye.conventions.spec import Specs
from handeye.policy import formats
from handeye.types import ActionChunk, EpisodeId, Observation


@dataclass(frozen=True, kw_only=True)
class Checksum:
    size: int = 64
    """Pixels of its two cameras."""

    seconds: float = 0.0
    """That a batch takes, whatever its size: a model on a GPU that is not busy."""

    specs: Specs = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "specs", libero.specs(camera_size=self.size))

    def reset(self, episodes: Sequence[EpisodeId]) -> None:
        """Nothing to forget."""

    def act(self, observations: Sequence[Observation]) -> list[ActionChunk]:
        time.sleep(self.seconds)
        return [ActionChunk(actions=self.answer(seen)) for seen in observations]

    def answer(self, seen: Observation) -> np.ndarray:
        parts = [seen.seed, len(seen.prompt), *(int(seen.images[name].sum()) for name in sorted(seen.images))]
        felt = int(np.frombuffer(seen.proprio.tobytes(), np.uint32).sum())
        return np.random.default_rng([*parts, felt]).uniform(-1, 1, (8, 7)).astype(np.float32)


def observation(chance: random.Random, size: int = 64) -> Observation:
    numbers = np.random.default_rng(chance.randrange(2**32))
    return Observation(
        images={name: numbers.integers(0, 256, (size, size, 3), np.uint8) for name in libero.CAMERAS},
        proprio=numbers.normal(size=8).astype(np.float32),
        prompt="x" * chance.randint(1, 60),
        seed=chance.randrange(2**32),
    )


def openpi_form(seen: Observation) -> dict[str, Any]:
    """As openpi's client asks, in the policy's own image size, and with a seed."""
    turned = {key: seen.images[name][:, ::-1] for name, key in formats.OPENPI_IMAGES.items()}
    return {**turned, formats.OPENPI_STATE: seen.proprio.astype(float), "prompt": seen.prompt, "seed": seen.seed}


@dataclass
class Process:
    """A server that runs now."""

    pid: int
    host: str
    port: int
    code: int | None = None
    log: list[str] = field(default_factory=list)
    """Both are there when it has ended."""


@contextmanager
def served(log: Path, *flags: str, size: int = 64, seconds: float = 0.0) -> Iterator[Process]:
    """In a process of its own, with these flags of `handeye serve`; stopped by SIGTERM at the end."""
    command = [sys.executable, __file__, "--size", str(size), "--seconds", str(seconds), "--flags", *flags]
    with log.open("w+") as errors:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True)
        try:
            assert process.stdout is not None
            found = re.search(r"ws://(.+):(\d+)", process.stdout.readline())
            assert found, "the server did not start: " + log.read_text()
            running = Process(process.pid, found[1], int(found[2]))
            yield running
            process.send_signal(signal.SIGTERM)
            running.code = process.wait(60)
            running.log = log.read_text().splitlines()
        finally:
            process.kill()
            process.communicate(timeout=60)


if __name__ == "__main__":
    from handeye.serve.config import ServeConfig
    from handeye.serve.run import serve_policy

    words = sys.argv[1:]
    split = words.index("--flags")
    made = tyro.cli(Checksum, args=words[:split])
    config = tyro.cli(ServeConfig, args=["checksum", "--port", "0", *words[split + 1 :]])
    serve_policy(config, made)
