"""A trained policy's records are the same for any number of workers, any batch, and whatever dies on the way."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from handeye.checkpoints.manifest import Manifest
from handeye.checkpoints.save import save
from handeye.conventions import libero
from handeye.conventions.plain import to_plain
from handeye.data.pipeline.pipeline import standard_pipeline
from handeye.data.statistics import measure
from handeye.evaluate import results
from handeye.models.tiny import Config, Model
from handeye.records import read_lines
from handeye.serve.local import LocalPolicy, load_policy
from handeye.types import ActionChunk, EpisodeId, Observation

Evaluate = Callable[..., Path]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained `tiny` that moves the point about."""
    small: dict[str, Any] = {"channels": (4, 8, 8), "keypoints": 4, "overview": 8, "width": 16, "layers": 1}
    model = Model(Config(image_size=32, sentence_width=8, **small))
    model.initialise(torch.Generator().manual_seed(0))
    random_ = np.random.default_rng(0)
    statistics = measure([(random_.uniform(-1, 1, (50, 7)), random_.normal(size=(50, 8)))])
    specs = libero.specs(camera_size=16)
    manifest = Manifest(
        family="tiny",
        config=to_plain(model.config),
        files={},
        tensors=0,
        specs=specs,
        pipeline=standard_pipeline(specs, statistics, image_size=32, prompt_length=64),
        statistics=statistics,
        merged=False,
        step=1,
        provenance={},
    )
    folder = tmp_path_factory.mktemp("checkpoint") / "final"
    save(folder, manifest, model.state_dict())
    return folder


@pytest.fixture(scope="module")
def policy(checkpoint: Path) -> LocalPolicy:
    return load_policy(checkpoint, rows=4)


def lines(out: Path) -> list[dict[str, Any]]:
    return results.comparable(results.read(out).values())


def batches(out: Path) -> float:
    return next(line["policy"]["mean_batch"] for line in read_lines(out / "sessions.jsonl") if "ended" in line)


def test_workers_and_batches_do_not_reach_a_record(evaluate: Evaluate, policy: LocalPolicy) -> None:
    one = evaluate("one", policy, workers=1, batch=1)
    assert batches(one) == 1
    found = lines(one)
    assert len({line["hashes"]["actions"] for line in found}) == len(found) == 24
    for workers, batch, wait in ((2, 8, 0.0), (4, 1, 0.0), (4, 8, 20.0)):
        other = evaluate(f"{workers}-{batch}", policy, workers=workers, batch=batch, wait_ms=wait)
        assert lines(other) == found, f"{workers} workers, batches of {batch}"
    assert batches(other) > 1.5, "batches were made"


def test_two_processes_answer_as_one(evaluate: Evaluate, checkpoint: Path, policy: LocalPolicy) -> None:
    from handeye.evaluate.replicas import Replicas

    with Replicas("handeye.serve.load:load", str(checkpoint), ["cpu", "cpu"], rows=4) as twice:
        assert twice.identity == policy.identity
        shared = evaluate("shared", twice, workers=2, batch=2, tasks=(1,), episodes=4)
    assert lines(shared) == lines(evaluate("alone", policy, tasks=(1,), episodes=4))


class Assassin:
    """Answers as the policy does, and now and then kills a worker while it thinks."""

    def __init__(self, policy: LocalPolicy, rng: random.Random) -> None:
        self.specs, self.identity, self._policy, self._rng = policy.specs, policy.identity, policy, rng
        self.killed = 0

    def reset(self, episodes: Sequence[EpisodeId]) -> None:
        self._policy.reset(episodes)

    def act(self, observations: Sequence[Observation]) -> list[ActionChunk]:
        workers = [each for each in multiprocessing.active_children() if each.name.startswith("handeye-worker")]
        if workers and self._rng.random() < 0.15:
            chosen = self._rng.choice(workers).pid
            assert chosen
            os.kill(chosen, signal.SIGKILL)
            self.killed += 1
        return self._policy.act(observations)


def test_workers_that_are_killed_at_random_do_not_reach_a_record(evaluate: Evaluate, policy: LocalPolicy) -> None:
    plain = lines(evaluate("plain", policy, workers=2, batch=8, episodes=5))
    assassin = Assassin(policy, random.Random(1))
    hurt = evaluate("hurt", assassin, workers=3, batch=8, attempts=100, episodes=5)
    assert lines(hurt) == plain
    assert assassin.killed > 3
    assert max(result.timing["tries"] for result in results.read(hurt).values()) > 1
