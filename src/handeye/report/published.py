"""What others published on the same suites, beside our rates where the question was the same."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from handeye.evaluate.statistics import rate
from handeye.protocols.presets import PROTOCOLS
from handeye.protocols.protocol import Protocol
from handeye.protocols.published import PUBLISHED, SUITES, Published
from handeye.protocols.show import differing
from handeye.report.figures import Scale, axis, interval_bar, key, zoomed
from handeye.report.headline import headline
from handeye.report.load import Shown, by_suite
from handeye.report.origin import plain, protocol_of

TASKS = 10
"""Of each suite that numbers were published on."""

BAR = 220
"""Width of these bars: the differences are small."""


def published(shown: Sequence[Shown]) -> list[dict[str, Any]]:
    """A table for each suite and way of evaluating it. Suites on which nobody published anything have none."""
    tables = []
    for suite, runs in by_suite(shown).items():
        if suite not in SUITES:
            continue
        alike: dict[str, list[Shown]] = {}
        for each in runs:
            way = [each.identity["protocol"], each.identity["tasks"], each.identity["initial_states"]]
            alike.setdefault(json.dumps(way, sort_keys=True), []).append(each)
        tables += [_table(suite, group) for group in alike.values()]
    return tables


def _table(suite: str, runs: Sequence[Shown]) -> dict[str, Any]:
    entries = [entry for entry in PUBLISHED if entry.suite == suite]
    scale = _scale(entries, runs)
    protocol = protocol_of(runs[0])
    part = _part(runs[0])
    matching: list[dict[str, Any]] = []
    apart: dict[str, dict[str, Any]] = {}
    for entry in sorted(entries, key=lambda entry: (len(entry.differs), bool(entry.by), -entry.percent)):
        reasons = _reasons(PROTOCOLS[entry.protocol](), protocol, suite)
        if reasons or part:
            group = apart.setdefault(entry.protocol, {"protocol": entry.protocol, "reasons": reasons, "rows": []})
            group["rows"].append(_row(entry, scale))
        else:
            matching.append(_row(entry, scale))
    return {
        "suite": suite,
        "protocol": protocol.name,
        "axis": axis(scale, width=BAR),
        "ours": [_ours(each, scale) for each in runs],
        "matching": matching,
        "apart": list(apart.values()),
        "part": part,
    }


def _reasons(theirs: Protocol, ours: Protocol, suite: str) -> list[str]:
    return [
        f"{line['constant']}: {plain(line['one'])} theirs, {plain(line['other'])} here"
        for line in differing(theirs, ours, suite=suite)
    ]


def _part(each: Shown) -> list[str]:
    """Why a run answers only part of the question, whatever its protocol."""
    reasons = []
    if len(each.tasks) < TASKS:
        reasons.append(f"{len(each.tasks)} of {TASKS} tasks were evaluated")
    wanted, states = each.identity["protocol"]["initial_states"], list(each.identity["initial_states"])
    if states != list(range(wanted)):
        reasons.append(f"{len(states)} initial states from {states[0]} to {states[-1]}, not the first {wanted}")
    if each.identity["simulator"].get("supported") is False:
        reasons.append(f"MuJoCo {each.identity['simulator'].get('mujoco')}, outside the range that was compared")
    return reasons


def _scale(entries: Sequence[Published], runs: Sequence[Shown]) -> Scale:
    lows = [rate(entry.successes, entry.episodes).low for entry in entries]
    lows += [headline(each).interval[0] for each in runs if each.results]
    return zoomed(lows)


def _row(entry: Published, scale: Scale) -> dict[str, Any]:
    found = rate(entry.successes, entry.episodes)
    label = f"{entry.percent:g} %, {100 * found.low:.1f} to {100 * found.high:.1f}"
    return {
        "model": entry.model,
        "by": entry.by or "its authors",
        "percent": f"{entry.percent:.1f}" + (f" ± {entry.spread:g}" if entry.spread is not None else ""),
        "interval": f"{100 * found.low:.1f}–{100 * found.high:.1f}",
        "episodes": entry.episodes,
        "bar": interval_bar(entry.percent / 100, found.low, found.high, run=None, label=label, scale=scale, width=BAR),
        "source": entry.source,
        "pinned": entry.pinned,
        "differs": list(entry.differs),
    }


def _ours(each: Shown, scale: Scale) -> dict[str, Any]:
    found = headline(each)
    there, (low, high) = bool(found.rate.episodes), found.interval
    label = f"{100 * found.mean:.1f} %, {100 * low:.1f} to {100 * high:.1f}"
    return {
        "label": each.label,
        "key": key(each.colour),
        "percent": f"{100 * found.mean:.1f}" if there else "–",
        "interval": f"{100 * low:.1f}–{100 * high:.1f}" if there else "",
        "episodes": found.rate.episodes,
        "missing": each.missing,
        "errors": each.summary["errors"],
        "early": each.stopped,
        "bar": interval_bar(found.mean, low, high, run=each.colour, label=label, scale=scale, width=BAR)
        if there
        else "",
    }
