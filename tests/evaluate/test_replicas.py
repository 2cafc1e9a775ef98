"""One policy in several processes: the same answers, shared work, and an end that says why."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from handeye.errors import UserError
from handeye.evaluate import results
from handeye.evaluate.replicas import Replicas
from handeye.types import Observation

HERE = "policies_for_replicas"
Evaluate = Callable[..., Path]


@pytest.fixture(autouse=True)
def _policies_are_importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parent)
    for name in [name for name in sys.modules if name == HERE]:
        monkeypatch.delitem(sys.modules, name)


def test_two_processes_give_the_records_of_one_and_both_work(evaluate: Evaluate, tmp_path: Path) -> None:
    with Replicas(f"{HERE}:noise", str(tmp_path), ["one", "other"]) as policy:
        shared = evaluate("shared", policy, workers=3, batch=1)
    alone = evaluate("alone", "noise")
    assert lines(shared) == lines(alone)
    asked = {path.name: len(path.read_text().split()) for path in tmp_path.glob("*.asked")}
    assert set(asked) == {"one.asked", "other.asked"} and min(asked.values()) > 3
    assert len({path.read_text().split()[0] for path in tmp_path.glob("*.asked")} | {str(os.getpid())}) == 3


def lines(out: Path) -> list[dict[str, Any]]:
    return results.comparable(results.read(out).values())


def test_a_batch_of_pictures_arrives_as_it_was_sent(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    asked = [
        Observation(
            images={"agentview": random.integers(0, 256, (300, 300, 3), np.uint8)},
            proprio=random.normal(size=8).astype(np.float32),
            prompt="look",
        )
        for _ in range(70)  # 19 MB: more than the shared block holds
    ]
    with Replicas(f"{HERE}:means", str(tmp_path), ["one"]) as policy:
        for seen, chunk in zip(asked, policy.act(asked), strict=True):
            assert chunk.actions[0, 0] == np.float32(seen.images["agentview"].mean())


@pytest.mark.parametrize(
    ("policy", "error", "says"),
    [
        ("missing", UserError, "no such checkpoint"),
        ("broken", RuntimeError, "KeyError: 'weights'"),
        ("different", UserError, "would not answer alike"),
        ("dying", UserError, "SIGKILL"),
    ],
)
def test_what_goes_wrong_while_loading_is_told_here(
    policy: str, error: type[Exception], says: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match="(?s)" + says):
        Replicas(f"{HERE}:{policy}", str(tmp_path), ["one", "other"])


def test_a_process_that_dies_stops_the_run_and_loses_nothing(evaluate: Evaluate, tmp_path: Path) -> None:
    with (
        Replicas(f"{HERE}:mortal", str(tmp_path), ["one", "other"]) as policy,
        pytest.raises(UserError, match=r"policy's process on \w+ ended"),
    ):
        evaluate("run", policy, workers=2)
    assert 0 < len(lines(tmp_path / "run")) < 24
    with Replicas(f"{HERE}:noise", str(tmp_path), ["one"]) as policy:  # mended
        evaluate("run", policy)
    assert lines(tmp_path / "run") == lines(evaluate("whole", "noise"))


def test_processes_end_with_their_parent(tmp_path: Path) -> None:
    code = f"""
import time
from handeye.evaluate.replicas import Replicas
if __name__ == "__main__":
    Replicas("{HERE}:noise", {str(tmp_path)!r}, ["one"]).act([])
    time.sleep(60)
"""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    parent = subprocess.Popen([sys.executable, "-c", code], env=environment, start_new_session=True)
    try:
        deadline = time.monotonic() + 60
        while not (tmp_path / "one.asked").exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        parent.send_signal(signal.SIGKILL)
        parent.wait(10)
        while time.monotonic() < deadline:
            try:
                os.killpg(parent.pid, 0)
            except ProcessLookupError:
                return
            time.sleep(0.02)
        pytest.fail("the policy's process outlives its parent")
    finally:
        with suppress(ProcessLookupError):
            os.killpg(parent.pid, signal.SIGKILL)
