"""`handeye compare`: refuse what cannot be compared, then say who is better, or that nobody knows."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from itertools import combinations, islice
from typing import Any

from handeye.console import say, table
from handeye.errors import UserError
from handeye.evaluate import compare as comparing
from handeye.evaluate import power, runs
from handeye.evaluate.compare import Comparison, Differences
from handeye.evaluate.paired import NoiseFloor
from handeye.evaluate.runs import Run
from handeye.evaluate.statistics import bounds
from handeye.evaluate.study_config import CompareConfig, Verdict
from handeye.evaluate.summary import rate_of

LISTED = 20
"""Discordant episodes shown for each comparison; --json has them all."""


def run(config: CompareConfig) -> int:
    """Returns 1 if something is worse than what it is compared with, else 0."""
    found = [runs.load(folder) for folder in config.runs]
    _require_one_suite(found)
    chosen = list(combinations(found, 2)) if config.all_pairs else [(found[0], other) for other in found[1:]]
    if not config.json:
        _tell_runs(found)
    apart = [comparing.apart(one, other) for one, other in chosen]
    for (one, other), differences in zip(chosen, apart, strict=True):
        if not config.json:
            _tell_differences(one, other, differences)
        require_comparable(one, other, differences, unpaired=config.unpaired, across=config.across_protocols)
    floor = None if config.floor is None else _floor(found[0], runs.load(config.floor))
    comparisons = [comparing.compare(*pair, margin=config.margin, unpaired=config.unpaired) for pair in chosen]
    verdicts = comparing.judge(comparisons, alpha=config.alpha)
    adjusted = comparing.adjusted(comparisons)
    if config.json:
        say(json.dumps(_json(config, found, apart, comparisons, verdicts, adjusted, floor), indent=2))
    else:
        for comparison, verdict, p in zip(comparisons, verdicts, adjusted, strict=True):
            _tell(comparison, verdict, p, config, floor)
    return int("worse" in verdicts)


def _require_one_suite(found: list[Run]) -> None:
    if len({run.suite for run in found}) > 1:
        raise UserError(
            "These evaluations are of different suites.",
            why="; ".join(f"{run.place}: {run.suite}" for run in found),
            fix="compare evaluations of one suite",
        )


def require_comparable(
    one: Run, other: Run, differences: Differences, *, unpaired: bool = False, across: bool = False
) -> None:
    """Same episodes in the same scenes, or the user has said that rates will do."""
    pair = f"{one.name} and {other.name}"
    if unpaired:
        if one.stop_when or other.stop_when:
            raise UserError(
                f"{pair} cannot be compared by their rates.",
                why="one of them could stop early, and then a rate is not what it would have been",
                fix="compare them episode by episode, or evaluate without --stop-when",
            )
        if not comparing.shared_tasks(one, other):
            raise UserError(f"{pair} have no task in common that both finished an episode of.", fix="evaluate the same")
        return
    if differences.blocking and not across:
        raise UserError(
            f"{pair} were not run under the same rules, so their episodes are not the same.",
            why="; ".join(differences.blocking),
            fix="evaluate both under one protocol; or add --across-protocols if that difference is what you ask about, "
            "or --unpaired to compare rates alone",
        )
    if differences.scenes:
        raise UserError(
            f"{pair} ran {len(differences.scenes)} of the same episodes in other scenes.",
            why="their hashes differ: "
            + ", ".join(differences.scenes[:3])
            + (" ..." if differences.scenes[3:] else ""),
            fix="evaluate both with the same version and scene files, or compare rates alone with --unpaired",
        )
    sound = [key for key, result in one.results.items() if result.outcome != "error"]
    if not any(key in other.results and other.results[key].outcome != "error" for key in sound):
        raise UserError(
            f"{pair} have no finished episode in common.",
            why=f"{len(one.results)} and {len(other.results)} episodes are recorded",
            fix="evaluate the same tasks and initial states, or compare rates alone with --unpaired",
        )


def _floor(one: Run, again: Run) -> NoiseFloor:
    if not comparing.same_policy(one, again):
        raise UserError(
            f"{again.place} is not a second run of the policy in {one.place}.",
            why="a noise floor is how often a policy disagrees with itself",
            fix=f"handeye evaluate {one.address} ... --out ANOTHER, then --floor ANOTHER",
        )
    require_comparable(one, again, comparing.apart(one, again))
    return comparing.noise_floor(one, again)


def _tell_runs(found: list[Run]) -> None:
    rows = []
    for run in found:
        rate = rate_of(list(run.results.values()))
        rows.append([run.place, policy_of(run), f"{rate.successes}/{rate.episodes}", rate, len(run.errors) or ""])
    table("", ["", "policy", "succeeded", "rate [95 %]", "errors"], rows)
    for run in found:
        if begun := run.identity["policy"].get("partial"):
            say(f"{run.place}: {begun}")


def _tell_differences(one: Run, other: Run, differences: Differences) -> None:
    for line in (*differences.blocking, *differences.remarks):
        say(f"\n{one.place} | {other.place} differ in {line}")
    if differences.scenes:
        say(f"\n{one.place} and {other.place} ran {len(differences.scenes)} episodes in other scenes")


def _tell(
    comparison: Comparison, verdict: Verdict, p_holm: float, config: CompareConfig, floor: NoiseFloor | None
) -> None:
    say("\n" + sentence(comparison, verdict, margin=config.margin))
    for note in evidence(comparison, verdict, p_holm, config.alpha) + notes(comparison, verdict, config, floor):
        say(f"  {note}")
    if comparison.discordant:
        rows = [[found.episode.key, found.winner, found.steps] for found in islice(comparison.discordant, LISTED)]
        say()
        table("", ["episodes that end differently", "solved by", "steps"], rows)
        if (more := len(comparison.discordant) - LISTED) > 0:
            say(f"and {more} more; --json lists them all")


def sentence(comparison: Comparison, verdict: Verdict, *, margin: float | None) -> str:
    """The verdict in words, with the difference and its interval."""
    one, other = comparison.one.name, comparison.other.name
    low, high = (100 * bound for bound in comparison.valid.interval)
    words = {
        "better": f"{other} is better than {one}",
        "worse": f"{other} is worse than {one}",
        "equivalent": f"{other} and {one} are equivalent within {100 * (margin or 0):g} points",
        "undecided": f"Undecided between {one} and {other}",
    }
    return f"{words[verdict]}: {100 * comparison.valid.difference:+.1f} points [{low:+.1f}, {high:+.1f}]"


def evidence(comparison: Comparison, verdict: Verdict, p_holm: float, alpha: float) -> list[str]:
    """What the verdict rests on."""
    one, other, figures = comparison.one.name, comparison.other.name, comparison.valid
    if comparison.table is not None:
        counts = comparison.table
        lines = [
            f"{counts.total} shared episodes: {counts.only_one} only {one} solved, {counts.only_other} only {other}."
        ]
    else:
        lines = [f"{comparison.episodes[0]} and {comparison.episodes[1]} episodes, compared by rate alone."]
    holm = "" if p_holm == figures.p else f", {_p(p_holm)} after Holm"
    lines.append(f"p = {_p(figures.p)}{holm} against no difference.")
    if figures.p_equivalent is not None:
        lines.append(f"p = {_p(figures.p_equivalent)} against a difference of the margin or more.")
    if verdict == "equivalent" and p_holm <= alpha:
        lines.append("So there is a difference, but one smaller than the margin.")
    return lines


def notes(comparison: Comparison, verdict: Verdict, config: CompareConfig, floor: NoiseFloor | None) -> list[str]:
    """What else must be known before it is repeated."""
    lines = []
    if comparison.same_policy is not None:
        lines.append("Both are the same policy. " + _noise(comparison.same_policy))
    if comparison.method == "paired, stopped early":
        lines.append("One of them could stop early: p-values and interval are of bets, which hold whenever one stops.")
    if any(comparison.left_out) and comparison.table is not None:
        mine, theirs = comparison.left_out
        lines.append(f"Left out: {mine} episodes of {comparison.one.name}, {theirs} of {comparison.other.name}.")
    if any(comparison.errors):
        worst, best = (100 * comparison.extremes[way].difference for way in ("worst", "best"))
        lines.append(
            f"{sum(comparison.errors)} errors: the difference lies between {worst:+.1f} and {best:+.1f} points, "
            "and the verdict holds for both."
            if verdict != "undecided"
            else f"{sum(comparison.errors)} errors: the difference lies between {worst:+.1f} and {best:+.1f} points."
        )
    if floor is not None:
        lines.append(f"{comparison.one.name}, run twice: " + _noise(floor))
        if comparison.table and comparison.table.discordant <= floor.high * comparison.table.total:
            lines.append("The two policies disagree no more often than that: nothing tells them apart.")
    if verdict == "undecided" and comparison.table is not None:
        lines.append(_what_it_takes(comparison, config))
    return lines


def _noise(floor: NoiseFloor) -> str:
    return (
        f"{floor.discordant} of {floor.pairs} episodes end differently ({100 * floor.low:.1f} to "
        f"{100 * floor.high:.1f} % with 95 % confidence); {floor.identical} repeat every action to the last bit."
    )


def _what_it_takes(comparison: Comparison, config: CompareConfig) -> str:
    """What the same number of episodes could have found: undecided is not the same as equal."""
    assert comparison.table is not None
    share = comparison.table.discordant / comparison.table.total
    least = power.detectable(comparison.table.total, share, alpha=config.alpha) if share else None
    found = "no difference" if least is None else f"differences from {100 * least:.1f} points up"
    return (
        f"Undecided is not equal: {comparison.table.total} episodes of which {100 * share:.1f} % end differently "
        f"find {found} (in 80 of 100 studies). `handeye plan` says how many more it takes."
    )


def policy_of(run: Run) -> str:
    policy: Mapping[str, Any] = run.identity["policy"]
    return str(policy["name"]) if "name" in policy else f"{policy.get('family')} at step {policy.get('step')}"


def _p(value: float) -> str:
    return f"{value:.3f}" if value >= 0.001 else f"{value:.1e}"


def _json(
    config: CompareConfig,
    found: list[Run],
    apart: list[Differences],
    comparisons: list[Comparison],
    verdicts: list[Verdict],
    adjusted: list[float],
    floor: NoiseFloor | None,
) -> dict[str, Any]:
    listed = []
    for run in found:
        rate = rate_of(list(run.results.values()))
        limits = bounds(rate.successes, rate.episodes - rate.successes, len(run.errors))
        listed.append(
            {
                "folder": run.place,
                "policy": policy_of(run),
                "partial": run.identity["policy"].get("partial"),
                "planned": len(run.planned),
                "errors": len(run.errors),
                "rate": asdict(rate),
                "if_errors_were": {"failures": asdict(limits.worst), "successes": asdict(limits.best)},
                "stop_when": run.stop_when,
            }
        )
    return {
        "suite": found[0].suite,
        "alpha": config.alpha,
        "margin": config.margin,
        "runs": listed,
        "comparisons": [
            {**comparing.to_json(comparison, verdict, p), "differences": asdict(differences)}
            for comparison, verdict, p, differences in zip(comparisons, verdicts, adjusted, apart, strict=True)
        ],
        "noise_floor": None if floor is None else asdict(floor),
    }
