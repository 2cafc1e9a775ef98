"""`handeye select`: choose a checkpoint on some initial states, measure it on the others.

The best of ten checkpoints that are all 95 % good shows about 96.5 % over 500 episodes: the choice and the measurement
used the same luck. On states that had no part in the choice the rate is what it says.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from handeye.console import say, table, warn
from handeye.errors import UserError
from handeye.evaluate import compare as comparing
from handeye.evaluate import runs
from handeye.evaluate.compare_run import policy_of
from handeye.evaluate.paired import mcnemar, pairs
from handeye.evaluate.results import EpisodeResult
from handeye.evaluate.runs import Run
from handeye.evaluate.statistics import Rate, holm
from handeye.evaluate.study_config import SelectConfig
from handeye.evaluate.summary import rate_of


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A run, as it looks on the states that are chosen on, and on all others."""

    run: Run
    chosen_on: Rate
    p: float
    """Of "as good as the best one", exact McNemar on the same episodes, after Holm. 1 for the best."""

    elsewhere: Rate
    """Over the recorded episodes from other initial states."""


def run(config: SelectConfig) -> Path:
    """Returns the directory of the chosen one."""
    found = [runs.load(folder) for folder in config.runs]
    candidates = select(found, config.states())
    best = candidates[0]
    if config.json:
        say(json.dumps({"on": config.on, "candidates": [_json(candidate) for candidate in candidates]}, indent=2))
        return best.run.folder
    rows = [[c.run.place, policy_of(c.run), c.chosen_on, "" if c is best else f"{c.p:.2g}"] for c in candidates]
    table("", [f"initial states {config.on}", "policy", "rate [95 %]", "p against the best"], rows)
    if close := [c for c in candidates[1:] if c.p > 0.05]:
        say(f"\n{len(close)} of {len(candidates) - 1} others cannot be told from the best on these states.")
    say(f"\nChosen: {best.run.place}. Its rate above is flattered by the choice.")
    if best.elsewhere.episodes:
        say(f"On initial states that had no part in it: {best.elsewhere} of {best.elsewhere.episodes} episodes.")
    else:
        warn(f"it has no episodes from other initial states yet: evaluate {best.run.address} on them for its rate")
    return best.run.folder


def select(found: list[Run], states: range) -> list[Candidate]:
    """Best first, on the episodes from these states that all of them ran; ties go to the one named first."""
    for other in found[1:]:
        apart = comparing.apart(found[0], other)
        if other.suite != found[0].suite or apart.blocking or apart.scenes:
            raise UserError(
                f"{found[0].place} and {other.place} did not run the same episodes.",
                why="; ".join((*apart.blocking, *apart.scenes[:3])) or f"{found[0].suite} and {other.suite}",
                fix="evaluate all checkpoints on one suite under one protocol",
            )
    sound = [_sound(run) for run in found]
    shared = [key for key, result in sound[0].items() if result.episode.initial_state in states]
    shared = [key for key in shared if all(key in other for other in sound[1:])]
    if not shared:
        raise UserError(
            f"No episode from initial states {states.start} to {states.stop - 1} was finished by all of them.",
            fix=f"evaluate each with --initial-states {states.start}:{states.stop}, or choose on others",
        )
    outcomes = [[results[key].outcome == "success" for key in shared] for results in sound]
    best = max(range(len(found)), key=lambda index: (sum(outcomes[index]), -index))
    p_values = holm([mcnemar(pairs(outcomes[best], mine)) for index, mine in enumerate(outcomes) if index != best])
    p_values.insert(best, 1.0)
    candidates = [
        Candidate(
            run=run,
            chosen_on=rate_of([sound[index][key] for key in shared]),
            p=p_values[index],
            elsewhere=rate_of([r for r in sound[index].values() if r.episode.initial_state not in states]),
        )
        for index, run in enumerate(found)
    ]
    ranked = sorted(range(len(found)), key=lambda index: (index != best, -sum(outcomes[index]), index))
    return [candidates[index] for index in ranked]


def _sound(run: Run) -> dict[str, EpisodeResult]:
    return {key: result for key, result in run.results.items() if result.outcome != "error"}


def _json(candidate: Candidate) -> dict[str, Any]:
    return {
        "folder": candidate.run.place,
        "policy": policy_of(candidate.run),
        "chosen_on": asdict(candidate.chosen_on),
        "p_against_the_best": candidate.p,
        "elsewhere": asdict(candidate.elsewhere),
    }
