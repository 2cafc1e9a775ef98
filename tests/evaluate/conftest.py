"""A policy with both outcomes, and a run on the fake simulator in one line."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from handeye.conventions import libero
from handeye.conventions.spec import Specs
from handeye.evaluate.config import EvaluateConfig
from handeye.evaluate.run import run
from handeye.policy.scripted import SCRIPTED
from handeye.types import ActionChunk, EpisodeId, Observation


@dataclass
class Reacher:
    """Looks through both cameras and heads for the target with noise, so that some episodes fail. Counts its calls."""

    specs: Specs = field(default_factory=lambda: libero.specs(camera_size=16))
    chunk: int = 8
    calls: int = 0
    batches: set[int] = field(default_factory=set)
    begun: list[EpisodeId] = field(default_factory=list)

    def reset(self, episodes: Sequence[EpisodeId]) -> None:
        self.begun += episodes

    def act(self, observations: Sequence[Observation]) -> list[ActionChunk]:
        self.calls += 1
        self.batches.add(len(observations))
        return [ActionChunk(actions=self.answer(observation)) for observation in observations]

    def answer(self, observation: Observation) -> np.ndarray:
        seen = sum(int(image.sum()) for image in observation.images.values())  # depends on pixels too
        noise = np.random.default_rng([observation.seed, seen]).uniform(-2.5, 2.5, (self.chunk, 2))
        actions = np.zeros((self.chunk, 7), np.float32)
        actions[:, :2] = 0.5 * (observation.proprio[2:4] - observation.proprio[:2]) + noise
        return actions


@pytest.fixture
def reacher() -> Reacher:
    return Reacher()


@pytest.fixture
def evaluate(tmp_path: Path) -> Callable[..., Path]:
    """`evaluate("name", policy, workers=3)`: a run of 24 episodes into tmp_path/name. A policy or the name of one."""

    def evaluated(name: str, policy: Any, **flags: Any) -> Path:
        given: dict[str, Any] = {"tasks": (0, 1, 2), "workers": 1} | flags
        if "initial_states" not in given:
            given.setdefault("episodes", 8)
        address = policy if isinstance(policy, str) else "reacher"
        made = SCRIPTED[policy]() if isinstance(policy, str) else policy
        return run(EvaluateConfig(policy=address, suite="fake", out=tmp_path / name, **given), made)

    return evaluated


@pytest.fixture
def faults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """`faults("1-3.kill")`: see handeye.sim.fake."""
    folder = tmp_path / "faults"
    folder.mkdir()
    monkeypatch.setenv("HANDEYE_FAKE_FAULTS", str(folder))

    def plant(*names: str) -> Path:
        for name in names:
            (folder / name).touch()
        return folder

    return plant
