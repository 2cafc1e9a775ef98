"""`--stop-when`: an evaluation that ends when it knows, with the rule in its plan."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from handeye.errors import UserError
from handeye.evaluate import results
from handeye.evaluate.config import EvaluateConfig

Evaluate = Callable[..., Path]
RULE = "rate=0.95"
"""`noise` reaches a third, which shows after some rounds."""


def summary(out: Path) -> Any:
    return json.loads((out / "summary.json").read_text())


@pytest.fixture(autouse=True)
def _looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Episodes of the fake suite take milliseconds."""
    from handeye.distributed import crew

    monkeypatch.setattr(crew, "WATCH_EVERY", 0.02)


def test_it_stops_early_and_the_same_rounds_decide_however_it_ran(
    evaluate: Evaluate, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [
        evaluate(f"run{workers}", "noise", tasks=(0, 1, 2, 3), episodes=50, stop_when=RULE, workers=workers)
        for workers in (1, 3)
    ]
    decisions = [summary(out)["decision"] for out in runs]
    assert decisions[0] == decisions[1]
    assert decisions[0]["conclusion"] == "below"
    assert decisions[0]["episodes"] == 4 * decisions[0]["rounds"] < 200
    assert all(summary(out)["rate"] == summary(runs[0])["rate"] for out in runs)
    assert summary(runs[0])["rate"]["episodes"] == decisions[0]["episodes"]
    for out in runs:
        done = results.read(out)
        assert decisions[0]["episodes"] <= len(done) < 200, "what was under way is recorded too"
        assert json.loads((out / "plan.json").read_text())["identity"]["stop_when"]["rate"] == 0.95
    assert "below after" in capsys.readouterr().out
    before = (runs[0] / "episodes.jsonl").read_bytes()
    evaluate("run1", "noise", tasks=(0, 1, 2, 3), episodes=50, stop_when=RULE)
    assert (runs[0] / "episodes.jsonl").read_bytes() == before, "it knows already"


def test_a_rule_is_part_of_the_plan(evaluate: Evaluate) -> None:
    evaluate("run", "noise", episodes=2, stop_when=RULE)
    with pytest.raises(UserError, match="belongs to another"):
        evaluate("run", "noise", episodes=2)
    with pytest.raises(UserError, match="cannot know when to stop"):
        EvaluateConfig(policy="noise", suite="fake", stop_when=RULE, shard="1/2")


def test_better_or_worse_than_another_run(evaluate: Evaluate) -> None:
    baseline = evaluate("baseline", "zero", tasks=(0, 1, 2, 3), episodes=50)
    flags: dict[str, Any] = {"tasks": (0, 1, 2, 3), "episodes": 50, "stop_when": f"baseline={baseline}"}
    assert summary(evaluate("run", "noise", **flags))["decision"]["conclusion"] == "better"
    with pytest.raises(UserError, match="other rules"):
        evaluate("other", "noise", **{**flags, "seed": 5})
