"""Which of a folder's statistics fit these demonstrations is said by the name that chooses them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from handeye.conventions import libero
from handeye.conventions.normalize import Normalizer
from handeye.data.statistics import Statistics
from handeye.diagnose.conventions import Known, search
from handeye.diagnose.openloop import Scale
from handeye.diagnose.published import statistics
from handeye.diagnose.questions import Asked, Question, window
from handeye.types import ActionChunk, Observation


def row(value: float, width: int) -> dict[str, list[float]]:
    return {"mean": [0.0] * width, "std": [value] * width, "q01": [-value] * width, "q99": [value] * width}


def test_they_are_read_where_they_lie(tmp_path: Path) -> None:
    """OpenVLA's in a file of their own or in config.json, openpi's in assets; one alone is no choice."""
    sets = {name: {"action": row(1.0, 7), "proprio": row(1.0, 8)} for name in ("goal", "spatial", "broken")}
    sets["broken"] = {}
    (tmp_path / "config.json").write_text(json.dumps({"norm_stats": sets}))
    assert list(statistics(f"{tmp_path}#statistics=goal")) == ["statistics=goal", "statistics=spatial"]
    (tmp_path / "dataset_statistics.json").write_text(json.dumps({"goal": sets["goal"]}))
    assert statistics(str(tmp_path)) == {}
    for asset in ("robot/libero", "robot/droid"):
        (tmp_path / "pi" / "assets" / asset).mkdir(parents=True)
        norm = {"norm_stats": {"actions": row(1.0, 7), "state": row(1.0, 8)}}
        (tmp_path / "pi" / "assets" / asset / "norm_stats.json").write_text(json.dumps(norm))
    assert list(statistics(str(tmp_path / "pi"))) == ["asset=robot/droid", "asset=robot/libero"]
    assert statistics("ws://127.0.0.1:1") == statistics("zero") == {}


@dataclass
class Learned:
    """Knows its demonstrations nearly, and decodes with the statistics of others."""

    answers: np.ndarray

    def reset(self, episodes: Sequence[Any]) -> None: ...

    def act(self, observations: Sequence[Observation]) -> list[ActionChunk]:
        return [ActionChunk(actions=each.astype(np.float32)) for each in self.answers]


def test_the_one_that_fits_is_named() -> None:
    random, chunk = np.random.default_rng(0), 4
    actions = random.uniform(-0.9, 0.9, (200, 7))
    observation = Observation(
        images={name: random.integers(0, 256, (8, 8, 3), np.uint8) for name in libero.CAMERAS},
        proprio=random.normal(size=8).astype(np.float32),
        prompt="pick up the bowl",
    )
    asked = Asked(
        where="on demonstrations",
        questions=tuple(
            Question(observation=observation, episode="0", around=around, there=there)
            for around, there in (window(actions, step, chunk) for step in range(20, 180, 5))
        ),
        chunk=chunk,
    )
    sets = {
        f"statistics={name}": Statistics.from_json({"action": row(value, 7), "proprio": row(1.0, 8)})
        for name, value in (("wrong", 0.4), ("right", 1.0), ("other", 2.0))
    }
    keys = {name: each.action.normalizer("quantiles") for name, each in sets.items()}
    wrong, right = keys["statistics=wrong"], keys["statistics=right"]
    near = asked.actions() + random.normal(0, 0.05, asked.actions().shape)
    policy = Learned(wrong.inverse(right.forward(near)))
    known = Known(
        specs=libero.specs(camera_size=8), used_actions=wrong, own_actions=measured(actions), published_actions=keys
    )
    (cause,) = [
        each for each in search(policy, asked, Scale.of(asked), known).causes() if each.name == "action statistics"
    ]
    assert "decoded with the statistics of statistics=right" in cause.what and "DIR#statistics=right" in cause.fix


def measured(actions: np.ndarray) -> Normalizer:
    """What these demonstrations say of themselves, which fits as well and has no name."""
    rows = {"mean": actions.mean(0), "std": actions.std(0), "q01": [-1.0] * 7, "q99": [1.0] * 7}
    plain = {name: [float(value) for value in values] for name, values in rows.items()}
    return Statistics.from_json({"action": plain, "proprio": row(1.0, 8)}).action.normalizer("quantiles")
