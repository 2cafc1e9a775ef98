"""Runs on one suite, each compared with the first: a verdict, or why there can be none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from handeye.errors import UserError
from handeye.evaluate import compare as comparing
from handeye.evaluate.compare import Comparison, Differences
from handeye.evaluate.compare_run import evidence, notes, require_comparable, sentence
from handeye.evaluate.results import EpisodeResult
from handeye.evaluate.study_config import CompareConfig, Verdict
from handeye.report.figures import difference_bar, key
from handeye.report.load import Shown, by_suite
from handeye.report.tasks import ended
from handeye.types import EpisodeId

SCENES = 5
"""Named where more differ."""

Pair = tuple[Shown, Shown]


def versus(shown: Sequence[Shown], *, margin: float | None, alpha: float) -> list[dict[str, Any]]:
    """In the order of the page. All verdicts are given together, so that their number is accounted for."""
    pairs = [(suite[0], other) for suite in by_suite(shown).values() for other in suite[1:]]
    differences = [comparing.apart(one.run, other.run) for one, other in pairs]
    refused = [_refusal(pair, found) for pair, found in zip(pairs, differences, strict=True)]
    sound = [index for index, error in enumerate(refused) if error is None]
    compared = {
        index: comparing.compare(pairs[index][0].run, pairs[index][1].run, margin=margin, unpaired=False)
        for index in sound
    }
    comparisons = list(compared.values())
    verdicts = dict(zip(sound, comparing.judge(comparisons, alpha=alpha), strict=True))
    adjusted = dict(zip(sound, comparing.adjusted(comparisons), strict=True))
    return [
        {
            **_named(pair, found),
            **(
                _refused(error, found)
                if error is not None
                else _compared(pair, compared[index], verdicts[index], adjusted[index], margin, alpha)
            ),
        }
        for index, (pair, found, error) in enumerate(zip(pairs, differences, refused, strict=True))
    ]


def telling(comparisons: Sequence[dict[str, Any]]) -> set[str]:
    """Ids of the episodes that set two runs apart: those one wants to see."""
    pairs = [pair for comparison in comparisons for pair in comparison.get("pairs", ())]
    return {side["id"] for pair in pairs for side in pair["sides"]}


def _refusal(pair: Pair, differences: Differences) -> UserError | None:
    try:
        require_comparable(pair[0].run, pair[1].run, differences)
    except UserError as error:
        return error
    return None


def _named(pair: Pair, differences: Differences) -> dict[str, Any]:
    return {
        "suite": pair[0].suite,
        "labels": [each.label for each in pair],
        "swatches": [key(each.colour) for each in pair],
        "remarks": list(differences.remarks),
    }


def _refused(error: UserError, differences: Differences) -> dict[str, Any]:
    scenes = [f"another scene: {key_}" for key_ in differences.scenes[:SCENES]]
    if more := len(differences.scenes) - SCENES:
        scenes += [f"and {more} more scenes"] if more > 0 else []
    return {
        "verdict": "refused",
        "sentence": error.what,
        "reasons": [*differences.blocking, *scenes] or [error.why],
        "fix": error.fix,
    }


def _compared(
    pair: Pair, comparison: Comparison, verdict: Verdict, p_holm: float, margin: float | None, alpha: float
) -> dict[str, Any]:
    assert comparison.table is not None, "only paired comparisons are made here"
    config = CompareConfig(runs=tuple(each.run.folder for each in pair), margin=margin, alpha=alpha)
    figures, names = comparison.valid, (pair[0].label, pair[1].label)
    pairs = [_discordant(pair, found.episode) for found in comparison.discordant]
    pairs.sort(key=lambda found: not all(side["filmed"] for side in found["sides"]))
    return {
        "verdict": verdict,
        "sentence": sentence(comparison, verdict, margin=margin),
        "evidence": evidence(comparison, verdict, p_holm, alpha) + notes(comparison, verdict, config, None),
        "bar": difference_bar(figures.difference, *figures.interval, run=pair[1].colour, margin=margin, names=names),
        "table": comparison.table,
        "pairs": pairs,
        "filmed": any(side["filmed"] for found in pairs for side in found["sides"]),
        "title": f"{len(pairs)} episode{'' if len(pairs) == 1 else 's'} that only one of them solved",
    }


def _discordant(pair: Pair, episode: EpisodeId) -> dict[str, Any]:
    """One episode, as each of the two ended it."""
    return {
        "task": f"{episode.task} {pair[0].tasks[episode.task]}",
        "state": episode.initial_state,
        "sides": [_side(each, episode) for each in pair],
    }


def _why(result: EpisodeResult) -> str:
    unmet = "unmet: " + ", ".join(result.unmet) if result.unmet else ""
    return "; ".join(filter(None, [unmet, result.note]))


def _side(each: Shown, episode: EpisodeId) -> dict[str, Any]:
    result = each.run.results[episode.key]
    return {
        "id": each.id(episode),
        "label": each.label,
        "key": key(each.colour),
        "outcome": result.outcome,
        "ended": ended(result),
        "why": _why(result) if result.outcome == "failure" else "",
        "filmed": each.video(episode) is not None,
    }
