"""`handeye plan`: how many episodes, how many hours, and what they could find."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from handeye.console import say, table
from handeye.errors import UserError
from handeye.evaluate import compare as comparing
from handeye.evaluate import power, runs
from handeye.evaluate.statistics import clopper_pearson, wilson
from handeye.evaluate.study_config import PlanConfig

STATES = 50
"""Stored initial states of a LIBERO task: more episodes than this need another seed."""


@dataclass(frozen=True, kw_only=True)
class Assumption:
    """How often two policies end differently, and why one would think so."""

    discordance: float
    because: str


def run(config: PlanConfig) -> None:
    rate, assumptions = _assume(config)
    alpha = config.alpha / config.comparisons
    speed = config.per_minute if config.run is None else _speed(config.run)
    answer: dict[str, Any] = {
        "rate": rate,
        "power": config.power,
        "alpha": alpha,
        "episodes_per_minute": speed,
    }
    if config.difference is not None:
        answer |= _needed(config, rate, assumptions, alpha, speed)
    else:
        answer |= _findable(config, rate, assumptions, alpha, speed)
    if config.json:
        say(json.dumps(answer, indent=2))
        return
    if config.difference is not None:
        _tell_needed(config, answer)
    else:
        _tell_findable(config, answer)
    if speed is None:
        say("\nAdd --per-minute 40, or --run runs/eval-... to take the speed from, for hours.")


def _assume(config: PlanConfig) -> tuple[float, list[Assumption]]:
    """The lower rate, and discordances from the least that is possible to the most that is to be expected."""
    if config.pilot is not None:
        return _pilot(*config.pilot)
    rate, gain = config.rate, config.difference or 0.0
    if config.discordance is not None:
        if config.discordance < gain:
            raise UserError(
                f"Policies that differ by {100 * gain:g} points end at least that many episodes differently.",
                fix=f"use --discordance {gain:g} or more",
            )
        return rate, [Assumption(discordance=config.discordance, because="as given")]
    most = power.independent_discordance(rate, min(1.0, rate + gain))
    least = gain or most / 8
    found = [Assumption(discordance=least, because="one solves all that the other does" if gain else "nearly alike")]
    for share, because in ((0.25, "much in common"), (0.5, "half in common")):
        found.append(Assumption(discordance=least + share * (most - least), because=because))
    return rate, [*found, Assumption(discordance=most, because="nothing in common but the rate")]


def _pilot(one: Path, other: Path) -> tuple[float, list[Assumption]]:
    """From two runs: as observed, and as high as it may be."""
    first, second = runs.load(one), runs.load(other)
    apart = comparing.apart(first, second)
    if first.suite != second.suite or apart.blocking or apart.scenes:
        raise UserError(
            f"{one} and {other} did not run the same episodes.",
            why="; ".join((*apart.blocking, *apart.scenes[:3])) or f"{first.suite} and {second.suite}",
            fix="handeye compare says what differs",
        )
    table = comparing.compare(first, second, margin=None, unpaired=False).table
    assert table is not None
    if not table.total:
        raise UserError(f"{one} and {other} have no finished episode in common.", fix="evaluate both on the same")
    low = min(table.both + table.only_one, table.both + table.only_other) / table.total
    _, high = clopper_pearson(table.discordant, table.total)
    pilot = f"of {table.total} episodes of the pilot"
    seen = Assumption(discordance=table.discordant / table.total, because=f"{table.discordant} {pilot}")
    return low, [seen, Assumption(discordance=high, because=f"upper 95 % bound {pilot}")]


def _speed(folder: Path) -> float:
    speed = runs.load(folder).per_minute()
    if speed is None:
        raise UserError(
            f"{folder} does not say how fast it was.",
            why="only an evaluation that came to an end of its own measures that",
            fix="give --per-minute",
        )
    return speed


def _needed(
    config: PlanConfig, rate: float, assumptions: list[Assumption], alpha: float, speed: float | None
) -> dict[str, Any]:
    assert config.difference is not None
    rows = []
    for assumed in assumptions:
        discordance = max(assumed.discordance, config.difference)
        count = power.pairs_needed(discordance, config.difference, power=config.power, alpha=alpha)
        row = {"discordance": discordance, "because": assumed.because, "episodes": count, "hours": _hours(count, speed)}
        if config.margin is not None:
            same = power.equivalence_pairs(assumed.discordance, config.margin, power=config.power, alpha=alpha)
            row |= {"episodes_for_equivalence": same}
        rows.append(row)
    unpaired = power.unpaired_needed(rate, rate + config.difference, power=config.power, alpha=alpha)
    return {
        "difference": config.difference,
        "margin": config.margin,
        "paired": rows,
        "unpaired": {"episodes": unpaired, "hours": _hours(unpaired, speed)},
    }


def _findable(
    config: PlanConfig, rate: float, assumptions: list[Assumption], alpha: float, speed: float | None
) -> dict[str, Any]:
    assert config.episodes is not None
    rows = []
    for assumed in assumptions:
        least = power.detectable(config.episodes, assumed.discordance, power=config.power, alpha=alpha)
        margin = power.equivalence_margin(config.episodes, assumed.discordance, power=config.power, alpha=alpha)
        rows.append(
            {
                "discordance": assumed.discordance,
                "because": assumed.because,
                "difference": least,
                "equivalent_within": margin,
            }
        )
    low, high = wilson(round(rate * config.episodes), config.episodes)
    return {
        "episodes": config.episodes,
        "hours": _hours(config.episodes, speed),
        "rate_interval": [low, high],
        "paired": rows,
        "unpaired": {"difference": power.unpaired_detectable(config.episodes, rate, power=config.power, alpha=alpha)},
    }


def _tell_needed(config: PlanConfig, answer: dict[str, Any]) -> None:
    say(
        f"To find a difference of {_points(answer['difference'])} ({_percent(answer['rate'])} against "
        f"{_percent(answer['rate'] + answer['difference'])}) in {100 * config.power:g} of 100 studies, wrong in "
        f"{100 * config.alpha:g} of 100{_several(config)}:\n"
    )
    columns = ["episodes that end differently", "episodes each", f"per task ({config.tasks})", "hours each"]
    rows = [
        [f"{_percent(row['discordance'])}: {row['because']}", row["episodes"], *_per(config, row)]
        for row in answer["paired"]
    ]
    rows.append(["not paired", answer["unpaired"]["episodes"], *_per(config, answer["unpaired"])])
    if config.margin is not None:
        columns.append(f"equivalent within {_points(config.margin)}")
        rows = [
            [*row, found.get("episodes_for_equivalence", "")]
            for row, found in zip(rows, [*answer["paired"], {}], strict=True)
        ]
    table("", columns, rows)
    most = max(row["episodes"] for row in answer["paired"])
    if most > STATES * config.tasks:
        say(f"\nA LIBERO task has {STATES} initial states: past {STATES * config.tasks} episodes repeat with --seed 1.")


def _tell_findable(config: PlanConfig, answer: dict[str, Any]) -> None:
    low, high = answer["rate_interval"]
    hours = "" if answer["hours"] is None else f" in {answer['hours']:.2g} hours each"
    say(
        f"{config.episodes} episodes{hours}. A rate of {_percent(answer['rate'])} is then known to "
        f"{_percent(low)} to {_percent(high)}. Two policies, with {100 * config.power:g} of 100 studies "
        f"finding it{_several(config)}:\n"
    )
    rows = [
        [
            f"{_percent(row['discordance'])}: {row['because']}",
            "none" if row["difference"] is None else _points(row["difference"]),
            _points(row["equivalent_within"]),
        ]
        for row in answer["paired"]
    ]
    alone = answer["unpaired"]["difference"]
    rows.append(["not paired", "none" if alone is None else _points(alone), ""])
    table("", ["episodes that end differently", "smallest difference found", "equal ones: equivalent within"], rows)


def _per(config: PlanConfig, row: dict[str, Any]) -> list[object]:
    hours = row["hours"]
    return [-(-row["episodes"] // config.tasks), "" if hours is None else f"{hours:.2g}"]


def _hours(episodes: int, per_minute: float | None) -> float | None:
    return None if per_minute is None else episodes / per_minute / 60


def _several(config: PlanConfig) -> str:
    return f" over {config.comparisons} comparisons" if config.comparisons > 1 else ""


def _points(share: float) -> str:
    return f"{100 * share:.3g} points"


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"
