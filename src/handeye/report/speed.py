"""How fast it went: what the sessions measured, and what each episode's timing adds up to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from handeye.report.figures import key, spread_bar
from handeye.report.load import Shown

Numbers = list[float]
TENTH = 0.1
"""Seconds to which sessions are rounded."""


def speed(shown: Sequence[Shown]) -> dict[str, Any]:
    """Rows of measures, a column per run."""
    return {
        "runs": [{"label": each.label, "key": key(each.colour), "suite": each.suite} for each in shown],
        "rows": [
            {"name": name, "cells": [{"text": say(each), "bar": ""} for each in shown]}
            for name, say in PLAIN.items()
            if any(say(each) != "–" for each in shown)
        ]
        + [row for name, (unit, scale, of) in SPREAD.items() if (row := _spread(name, unit, scale, of, shown))],
    }


def _spread(
    name: str, unit: str, scale: int, of: Callable[[Shown], Numbers], shown: Sequence[Shown]
) -> dict[str, Any] | None:
    """Median, and the range of the middle nine tenths. None where nobody measured it."""
    found = [[scale * number for number in of(each)] for each in shown]
    if not any(found):
        return None
    bounds = [np.quantile(numbers, [0.05, 0.5, 0.95]).tolist() if numbers else None for numbers in found]
    most = max(bound[2] for bound in bounds if bound)
    cells = []
    for each, bound in zip(shown, bounds, strict=True):
        if bound is None:
            cells.append({"text": "–", "bar": ""})
            continue
        low, middle, high = bound
        text = f"{_short(middle)} {unit} ({_short(low)}–{_short(high)})"
        cells.append({"text": text, "bar": spread_bar(low, middle, high, run=each.colour, most=most, label=text)})
    return {"name": name, "cells": cells}


def _per_minute(each: Shown) -> str:
    found = each.run.per_minute()
    parts = {session["part"] for session in each.sessions if "part" in session}
    return "–" if found is None else _short(found) + (f" in each of {len(parts)} parts" if len(parts) > 1 else "")


def _workers(each: Shown) -> str:
    found = list(dict.fromkeys(session["workers"] for session in each.sessions if "workers" in session))
    return ", then ".join(str(workers) for workers in found) or "–"


def _policy(each: Shown, name: str) -> float:
    return float(sum(session["policy"].get(name, 0) for session in each.sessions if session.get("policy")))


def _questions(each: Shown) -> str:
    return str(sum(result.questions for result in each.recorded)) if each.recorded else "–"


def _answer(each: Shown) -> str:
    questions, seconds = _policy(each, "questions"), _policy(each, "seconds")
    if not questions:
        return "–"
    return f"{_short(1000 * seconds / questions)} ms" if seconds else f"under {_short(1000 * TENTH / questions)} ms"


def _batch(each: Shown) -> str:
    batches = _policy(each, "batches")
    return _short(_policy(each, "questions") / batches) if batches else "–"


def _busy(each: Shown) -> str:
    """Weighted by the sessions' lengths."""
    parts = [(s["policy"]["busy"], s["seconds"]) for s in each.sessions if "busy" in (s.get("policy") or {})]
    whole = sum(seconds for _, seconds in parts)
    return f"{100 * sum(busy * seconds for busy, seconds in parts) / whole:.0f} %" if whole else "–"


def _again(each: Shown) -> str:
    again = sum(result.timing.get("tries", 1) > 1 for result in each.recorded)
    return str(again) if again else "–"


def _timing(name: str) -> Callable[[Shown], Numbers]:
    return lambda each: [float(result.timing[name]) for result in each.recorded if name in result.timing]


def _wait(each: Shown) -> Numbers:
    """The expert waits for nobody."""
    if not each.identity["policy"].get("specs"):
        return []
    return [r.timing["waited"] / r.questions for r in each.recorded if r.questions and "waited" in r.timing]


def _step(each: Shown) -> Numbers:
    return [r.timing["cpu_act"] / r.steps for r in each.recorded if r.steps and "cpu_act" in r.timing]


PLAIN: dict[str, Callable[[Shown], str]] = {
    "episodes per minute": _per_minute,
    "simulator processes": _workers,
    "questions to the policy": _questions,
    "policy's time per question": _answer,
    "questions per batch": _batch,
    "policy busy": _busy,
    "episodes tried again": _again,
}
SPREAD: dict[str, tuple[str, int, Callable[[Shown], Numbers]]] = {
    "seconds per episode": ("s", 1, _timing("seconds")),
    "wait for an answer": ("ms", 1000, _wait),
    "processor time to start an episode": ("ms", 1000, _timing("cpu_start")),
    "processor time per step": ("ms", 1000, _step),
}


def _short(number: float) -> str:
    """Three digits, or as many as there are before the point."""
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"
