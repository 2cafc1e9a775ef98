"""An evaluation through a server has the records of a local one; openpi's form differs only in its pixels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from handeye.evaluate.config import EvaluateConfig
from handeye.evaluate.run import run
from handeye.policy.websocket import Patience, Remote
from handeye.records import read_lines


def records(out: Path) -> dict[str, tuple[Any, ...]]:
    """Episode -> all that may not differ between repetitions."""
    lines = read_lines(out / "episodes.jsonl")
    return {
        str(sorted(line["episode"].items())): tuple(str(line[k]) for k in ("outcome", "steps", "questions", "hashes"))
        for line in lines
    }


def evaluate(policy: Any, out: Path, address: str) -> dict[str, tuple[Any, ...]]:
    run(EvaluateConfig(policy=address, suite="fake", tasks=(0, 1), episodes=3, workers=2, out=out), policy)
    return records(out)


def test_served_and_local_records_are_the_same(serving: Any, looker: Any, tmp_path: Path) -> None:
    local = evaluate(looker, tmp_path / "local", "looker")
    running = serving(looker, batch=4)
    with Remote(running.address, patience=Patience(connect=10.0, answer=20.0)) as remote:
        assert evaluate(remote, tmp_path / "served", running.address) == local
    assert len(local) == 6


def test_an_error_of_the_server_is_no_failure(serving: Any, looker: Any, tmp_path: Path) -> None:
    running = serving(looker)
    looker.raises = RuntimeError("out of memory")
    with Remote(running.address, patience=Patience(connect=10.0, answer=20.0)) as remote:
        with pytest.raises(Exception, match="out of memory"):
            evaluate(remote, tmp_path / "served", running.address)
        assert not any(line["outcome"] == "failure" for line in read_lines(tmp_path / "served" / "episodes.jsonl"))
        looker.raises = None
        assert len(evaluate(remote, tmp_path / "served", running.address)) == 6, "and it goes on"
