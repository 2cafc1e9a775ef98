"""Of each suite: its tasks with their rates, success over time, and a cell for every episode."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from handeye.evaluate.results import EpisodeResult
from handeye.evaluate.summary import median_steps, rate_of
from handeye.report.figures import NARROW, Curve, axis, interval_bar, key, success_over_steps
from handeye.report.headline import headline
from handeye.report.load import Shown
from handeye.types import EpisodeId

BLOCK = 10
"""Cells that stay together, so that initial states can be counted."""


def suite(name: str, shown: Sequence[Shown]) -> dict[str, Any]:
    """`shown`: the runs on it."""
    sentences = {index: sentence for each in shown for index, sentence in each.tasks.items()}
    states = sorted({state for each in shown for state in each.identity["initial_states"]})
    return {
        "name": name,
        "runs": [{"label": each.label, "key": key(each.colour), "number": each.number} for each in shown],
        "tasks": [
            {
                "index": index,
                "sentence": sentences[index],
                "rates": [_rate(each, index) for each in shown],
                "rows": [_row(each, index, states) for each in shown if index in each.tasks],
            }
            for index in sorted(sentences)
        ],
        "totals": [_total(each) for each in shown],
        "erred": [any(result.outcome == "error" for result in each.results) for each in shown],
        "axis": axis((0.0, 1.0)),
        "uneven": any(list(each.identity["initial_states"]) != states for each in shown),
        "blocks": [_span(block) for block in _blocks(states)],
        "curves": _curves(name, shown),
        "early": any(each.run.stop_when is not None for each in shown),
        "filmed": _filmed(shown),
    }


def _filmed(shown: Sequence[Shown]) -> str:
    """How many of the recorded episodes have a video: none, some or all."""
    found = {each.video(result.episode) is not None for each in shown for result in each.recorded}
    return "some" if len(found) == 2 else "all" if found == {True} else "none"


def _rate(each: Shown, task: int) -> dict[str, Any]:
    of_task = each.of_task(task)
    found, steps = rate_of(of_task), median_steps(of_task)
    there = bool(found.episodes)
    return {
        "count": f"{found.successes}/{found.episodes}" if there else "–",
        "value": found.value if there else -1,
        "percent": f"{100 * found.value:.0f} %" if there else "",
        "interval": f"{100 * found.low:.0f}–{100 * found.high:.0f}" if there else "",
        "bar": interval_bar(found.value, found.low, found.high, run=each.colour, label=str(found)) if there else "",
        "steps": steps,
        "errors": sum(result.outcome == "error" for result in of_task),
    }


def _total(each: Shown) -> dict[str, Any]:
    """The suite's mean, with the interval that may be read (headline.py)."""
    found, steps = headline(each), median_steps(each.results)
    there, (low, high) = bool(found.rate.episodes), found.interval
    said = f"{100 * found.mean:.1f} %, {100 * low:.1f} to {100 * high:.1f}"
    return {
        "count": f"{found.rate.successes}/{found.rate.episodes}" if there else "–",
        "percent": f"{100 * found.mean:.1f} %" if there else "",
        "interval": f"{100 * low:.1f}–{100 * high:.1f}" if there else "",
        "bar": interval_bar(found.mean, low, high, run=each.colour, label=said) if there else "",
        "steps": steps,
        "errors": each.summary["errors"],
    }


def _row(each: Shown, task: int, states: Sequence[int]) -> dict[str, Any]:
    """A cell for each of these initial states, None for one that this run has not planned."""
    found = rate_of(each.of_task(task))
    planned = {episode.initial_state: episode for episode in each.run.planned if episode.task == task}
    return {
        "label": each.label,
        "key": key(each.colour),
        "count": f"{found.successes}/{found.episodes}",
        "blocks": [
            [_cell(each, planned[state]) if state in planned else None for state in block] for block in _blocks(states)
        ],
    }


def _blocks(items: Sequence[Any]) -> list[Sequence[Any]]:
    return [items[start : start + BLOCK] for start in range(0, len(items), BLOCK)]


def _span(states: Sequence[int]) -> str:
    return str(states[0]) if len(states) == 1 else f"{states[0]}–{states[-1]}"


def _cell(each: Shown, episode: EpisodeId) -> dict[str, Any]:
    result = each.run.results.get(episode.key)
    beyond = episode.key in each.beyond
    return {
        "id": each.id(episode) if result else "",
        "outcome": each.state(episode),
        "title": f"{each.label}, task {episode.task}, initial state {episode.initial_state}: "
        + (ended(result) if result else each.absent(episode))
        + (", beyond the rule's decision" if beyond else ""),
        "beyond": beyond,
        "filmed": bool(result and each.video(episode)),
    }


def ended(result: EpisodeResult) -> str:
    """In words."""
    return "error" if result.outcome == "error" else f"{result.outcome} after {result.steps} steps"


def _curves(name: str, shown: Sequence[Shown]) -> tuple[str, str]:
    """On one time axis, that of the longest horizon; drawn for a desk and for a phone."""
    curves = [
        Curve(
            label=each.label,
            run=each.colour,
            steps=[result.steps for result in each.results if result.outcome == "success"],
            episodes=sum(result.outcome != "error" for result in each.results),
        )
        for each in shown
    ]
    horizon = max(each.identity["protocol"]["horizons"][name] for each in shown)
    return success_over_steps(curves, horizon=horizon), success_over_steps(curves, horizon=horizon, width=NARROW)
