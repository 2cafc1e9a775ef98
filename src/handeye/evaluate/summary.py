"""The figures of a run, computed from its records: can be thrown away and made again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from statistics import median
from typing import Any

from handeye.evaluate.results import EpisodeResult
from handeye.evaluate.sequential import Decision
from handeye.evaluate.statistics import (
    Rate,
    bootstrap_tasks,
    bounds,
    clopper_pearson,
    clustered,
    mean_rate,
    rate,
    stratified,
)
from handeye.types import EpisodeId

SUMMARY = "summary.json"


def rate_of(results: Sequence[EpisodeResult]) -> Rate:
    """Over the episodes that ended without an error."""
    valid = [result for result in results if result.outcome != "error"]
    return rate(sum(result.outcome == "success" for result in valid), len(valid))


def summarise(
    planned: Sequence[EpisodeId], found: Mapping[str, EpisodeResult], *, decision: Decision | None = None
) -> dict[str, Any]:
    """`planned` decides what counts: lines of other episodes are no part of the run. `decision`: of a rule to stop
    by."""
    results = [found[episode.key] for episode in planned if episode.key in found]
    by_task: dict[int, list[EpisodeResult]] = {}
    for result in results:
        by_task.setdefault(result.episode.task, []).append(result)
    outcomes = {
        task: [result.outcome == "success" for result in of_task if result.outcome != "error"]
        for task, of_task in by_task.items()
    }
    overall, errors = rate_of(results), sum(result.outcome == "error" for result in results)
    over_tasks = clustered(outcomes)
    limits = bounds(overall.successes, overall.episodes - overall.successes, errors)
    counts = [(sum(won), len(won)) for won in outcomes.values()]
    return {
        "complete": len(results) == len(planned) and not errors,
        "planned": len(planned),
        "decision": None if decision is None else decision.to_json(),
        "errors": errors,
        "rate": _numbers(overall),
        "suite": {"mean": mean_rate(counts) if overall.episodes else None, "stratified_95": list(stratified(counts))},
        "over_tasks": None if over_tasks is None else {**asdict(over_tasks), "bootstrap_95": bootstrap_tasks(outcomes)},
        "if_errors_were": {
            "failures": limits.worst.value if results else None,
            "successes": limits.best.value if results else None,
            "wilson_95": [limits.worst.low, limits.best.high],
        },
        "tasks": {
            str(task): {
                **_numbers(rate_of(of_task)),
                "errors": sum(result.outcome == "error" for result in of_task),
                "median_steps_to_success": median_steps(of_task),
                "unmet": _unmet(of_task),
            }
            for task, of_task in sorted(by_task.items())
        },
    }


def _unmet(results: Sequence[EpisodeResult]) -> dict[str, int]:
    """Part of the goal -> in how many failures it did not hold at the end."""
    counts = Counter(part for result in results for part in result.unmet or ())
    return dict(sorted(counts.items()))


def _numbers(found: Rate) -> dict[str, Any]:
    return {
        "successes": found.successes,
        "episodes": found.episodes,
        "rate": found.value if found.episodes else None,
        "wilson_95": [found.low, found.high],
        "exact_95": list(clopper_pearson(found.successes, found.episodes)),
    }


def median_steps(results: Sequence[EpisodeResult]) -> float | None:
    steps = [result.steps for result in results if result.outcome == "success"]
    return float(median(steps)) if steps else None
