"""Evaluations on the fake simulator to make pages of."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from handeye.evaluate.config import EvaluateConfig
from handeye.evaluate.run import run
from handeye.policy.scripted import SCRIPTED


@pytest.fixture
def evaluated(tmp_path: Path) -> Callable[..., Path]:
    """`evaluated("noise", videos="all")`: a run of eight episodes into tmp_path/noise."""

    def make(policy: str, *, name: str = "", **flags: Any) -> Path:
        given: dict[str, Any] = {"tasks": (0, 1), "episodes": 4, "workers": 1} | flags
        config = EvaluateConfig(policy=policy, suite="fake", out=tmp_path / (name or policy), **given)
        return run(config, SCRIPTED[policy]())

    return make
