"""Short versions of the recipes: hostile clients beside well-behaved ones, and 64 clients at once."""

from __future__ import annotations

import asyncio
import logging
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def recipe(recipes: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """`recipe("fuzz_server")`: the module, which imports others beside it."""
    monkeypatch.syspath_prepend(str(recipes))
    return import_module


@pytest.mark.slow
def test_hostile_clients_stop_nobody(recipe: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """300 of the recipe's cases. `storm` compares every answer of the well-behaved."""
    fuzz = recipe("fuzz_server")
    caplog.set_level(logging.CRITICAL, "asyncio")
    flags = fuzz.flags(fuzz.LIMITS | {"idle_seconds": 1.5})
    with recipe("checksum_policy").served(tmp_path / "log", *flags) as server:
        storm = fuzz.storm(server.host, server.port, cases=300, seed=1, at_once=48)
        outcome = asyncio.run(asyncio.wait_for(storm, 120))
    assert not outcome.wrong
    assert sum(outcome.results.values()) == 300
    assert {name.split(":")[0] for name in outcome.results} == {attack.__name__ for attack in fuzz.KINDS}
    assert outcome.results["bad_messages: error"] > 60
    assert outcome.answers > 20 and len(outcome.health) > 20
    assert server.code == 0
    assert not any("Traceback" in line for line in server.log)


def test_64_clients_at_once_lose_nothing(recipe: Any, serving: Any) -> None:
    load, policy = recipe("load_server"), recipe("checksum_policy").Checksum(seconds=0.01)
    running = serving(policy, batch=16)
    seconds, _ = asyncio.run(
        asyncio.wait_for(load.load(running.address, policy, clients=64, questions=5), 120)  # compares each answer
    )
    assert len(seconds) == 64 * 5
    running.stop()
    assert "320 answered" in running.log[-1] and "largest 16" in running.log[-1]
