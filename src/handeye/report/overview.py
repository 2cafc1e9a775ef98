"""The index of runs: each rate with its interval, and what must be said beside it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from handeye.evaluate.statistics import mean_rate, stratified
from handeye.evaluate.summary import rate_of
from handeye.report.figures import Scale, axis, interval_bar, key, zoomed
from handeye.report.headline import Headline, baseline, headline, notices, state
from handeye.report.load import Shown

KINDS = {
    "suite": "95 % interval of the suite's mean, stratified by task",
    "sequence": "95 % confidence sequence: it holds at whatever moment one stops",
}


def overview(shown: Sequence[Shown]) -> dict[str, Any]:
    scale = zoomed([headline(each).interval[0] for each in shown])
    return {
        "rows": [_row(each, scale) for each in shown],
        "means": _means(shown, scale),
        "axis": axis(scale),
        "erred": any(each.summary["errors"] for each in shown),
    }


def _row(each: Shown, scale: Scale) -> dict[str, Any]:
    found, summary = headline(each), each.summary
    there, over = bool(found.rate.episodes), summary["over_tasks"]
    return {
        "number": each.number,
        "label": each.label,
        "key": key(each.colour),
        "suite": each.suite,
        "protocol": each.identity["protocol"]["name"],
        "baseline": baseline(each),
        "there": there,
        "successes": found.rate.successes,
        "episodes": found.rate.episodes,
        "planned": len(each.run.planned),
        "tasks": len(each.tasks),
        "value": found.mean if there else -1,
        "percent": f"{100 * found.mean:.1f}" if there else "",
        "interval": _span(found.interval),
        "kind": KINDS[found.kind],
        "wilson": _span((found.rate.low, found.rate.high)),
        "over_tasks": over and _span((over["low"], over["high"])),
        "bootstrap": over and _span(over["bootstrap_95"]),
        "pooled": f"{100 * found.rate.value:.1f}" if found.unequal else "",
        "bar": _bar(found, each.colour, scale) if there else "",
        "errors": summary["errors"],
        "state": state(each),
        "per_minute": each.run.per_minute(),
        "notices": notices(each),
    }


def _bar(found: Headline, colour: int, scale: Scale) -> str:
    said = f"{100 * found.mean:.1f} %, {_span(found.interval)}"
    return interval_bar(found.mean, *found.interval, run=colour, label=said, scale=scale)


def _means(shown: Sequence[Shown], scale: Scale) -> list[dict[str, Any]]:
    """Of one policy over several suites, each suite and each of its tasks counting the same."""
    policies: dict[str, list[Shown]] = {}
    for each in shown:
        policies.setdefault(each.label, []).append(each)
    rows = []
    for label, runs in policies.items():
        rates = [rate_of(each.of_task(task)) for each in runs for task in each.tasks]
        counts = [(rate.successes, rate.episodes) for rate in rates]
        if not _averaged(runs) or not all(episodes for _, episodes in counts):
            continue
        mean, interval = mean_rate(counts), stratified(counts)
        said = f"{100 * mean:.1f} %, {_span(interval)}"
        rows.append(
            {
                "label": label,
                "key": key(runs[0].colour),
                "protocol": runs[0].identity["protocol"]["name"],
                "suites": len(runs),
                "successes": sum(successes for successes, _ in counts),
                "episodes": sum(episodes for _, episodes in counts),
                "percent": f"{100 * mean:.1f}",
                "interval": _span(interval),
                "bar": interval_bar(mean, *interval, run=runs[0].colour, label=said, scale=scale),
            }
        )
    return rows


def _averaged(runs: Sequence[Shown]) -> bool:
    """One policy under one protocol, each suite once and with as many tasks, and none with a rule that could end it:
    the mean of such rates has no interval that we know of."""
    return (
        len({each.suite for each in runs}) == len(runs) > 1
        and all(each.identity["policy"] == runs[0].identity["policy"] for each in runs)
        and all(each.identity["protocol"] == runs[0].identity["protocol"] for each in runs)
        and len({len(each.tasks) for each in runs}) == 1
        and all(each.run.stop_when is None for each in runs)
    )


def _span(interval: Sequence[float]) -> str:
    return f"{100 * interval[0]:.1f}–{100 * interval[1]:.1f} %"
