"""openpi's tiny checkpoint in the simulator, under its protocol: it fails, since nothing trained it, and every time in
the same way."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from handeye.conventions import libero
from handeye.evaluate import results
from handeye.evaluate.config import EvaluateConfig
from handeye.evaluate.run import run
from handeye.protocols import presets
from handeye.serve.load import load
from handeye.serve.local import LocalPolicy
from handeye.types import Observation

pytestmark = [pytest.mark.goldens, pytest.mark.slow]


@pytest.fixture
def address(goldens: Path, tmp_path: Path) -> str:
    return checkpoint("pi05_tiny", goldens, tmp_path) + ",state=yes"


def checkpoint(name: str, goldens: Path, tmp_path: Path) -> str:
    pytest.importorskip("tensorstore", reason="needs the extra `orbax`")
    shutil.copytree(goldens / "pi05" / name / "checkpoint", tmp_path / "checkpoint")
    tokenizer = goldens / "pi05" / "tokenizer" / "tiny_tokenizer.model"
    shutil.copy2(tokenizer, tmp_path / "checkpoint" / "paligemma_tokenizer.model")
    return f"{tmp_path / 'checkpoint'}#precision=fp32"


def test_evaluated_twice(address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With one worker and with two: the same actions, hence the same noise, whoever asks first."""
    short = replace(presets.openpi_2025(), name="openpi-short", stream="episode", horizons={"tabletop": 6}, sources={})
    monkeypatch.setitem(presets.PROTOCOLS, "openpi-short", lambda: short)
    records = []
    for workers in (1, 2):
        policy = load(address, device="cpu", replan=short.replan_steps)
        assert isinstance(policy, LocalPolicy)
        config = EvaluateConfig(
            policy=address,
            suite="tabletop",
            tasks=(0,),
            episodes=2,
            protocol="openpi-short",
            workers=workers,
            out=tmp_path / str(workers),
        )
        records.append(results.comparable(results.read(run(config, policy)).values()))
    assert records[0] == records[1]
    assert [(r["outcome"], r["steps"], r["questions"]) for r in records[0]] == [("failure", 6, 2)] * 2
    assert len({r["hashes"]["actions"] for r in records[0]}) == 2


@pytest.mark.parametrize("name", ["pi05_tiny", "pi0_tiny"])
def test_together_as_alone(name: str, goldens: Path, tmp_path: Path) -> None:
    address = checkpoint(name, goldens, tmp_path)
    one, many = load(address, device="cpu", rows=1), load(address, device="cpu", rows=3)
    random = np.random.default_rng(1)
    asked = [
        Observation(
            images={name: random.integers(0, 256, (256, 256, 3), np.uint8) for name in libero.CAMERAS},
            proprio=random.normal(size=8).astype(np.float32),
            prompt=prompt,
            seed=index,
        )
        for index, prompt in enumerate(("turn on the stove", "open the middle drawer of the cabinet", "push the plate"))
    ]
    for alone, together in zip(one.act(asked), many.act(asked), strict=True):
        np.testing.assert_allclose(alone.actions, together.actions, rtol=0, atol=1e-5)
