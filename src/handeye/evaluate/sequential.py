"""When to stop an evaluation, decided before it begins, by evidence that may be looked at after every round.

What is decided depends on the outcomes in the plan's order of rounds, never on who finished first.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from handeye.errors import UserError
from handeye.evaluate import betting
from handeye.evaluate.results import EpisodeResult
from handeye.types import EpisodeId

if TYPE_CHECKING:
    from handeye.evaluate.runs import Run

Kind = Literal["rate", "width", "baseline"]
Conclusion = Literal["undecided", "above", "below", "narrow", "better", "worse", "equivalent"]

FORMS = """rate=0.9 (until the rate is known to be above or below 0.9), width=0.05 (until it is known to within 0.05) or
baseline=runs/a (until it is known which is better); after a comma alpha=0.01 and, for a baseline, margin=0.02"""


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What a rule says about the rounds that are there."""

    conclusion: Conclusion
    """`undecided`: go on, if there is anything to go on with."""

    rounds: int
    episodes: int
    """So many of `order` are what it rests on. What ran beyond them is no part of it."""

    low: float
    high: float
    """Of the rate or of the difference: right at all times at once with chance 1 - alpha."""

    @property
    def stop(self) -> bool:
        return self.conclusion != "undecided"

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class Rule:
    """A reason to stop. `to_json` is what a plan records: all that the decision depends on."""

    kind: Kind
    value: float = math.nan
    """The rate to be above or below of, or the width to reach."""

    alpha: float = 0.05
    """Chance of a wrong conclusion, over all looks together."""

    margin: float | None = None
    """Of a baseline: differences smaller than this count as none."""

    baseline: Run | None = None

    @staticmethod
    def parse(text: str) -> Rule:
        """Of `--stop-when`: `rate=0.9`, `width=0.05,alpha=0.01`, `baseline=runs/a,margin=0.02`."""
        words = [part.partition("=") for part in text.split(",")]
        given = {name.strip(): value.strip() for name, _, value in words}
        kinds = [kind for kind in get_args(Kind) if kind in given]
        if len(kinds) != 1 or len(given) < len(words) or set(given) - {*kinds, "alpha", "margin"}:
            raise _bad(text, "it names one of rate, width and baseline, and each word once")
        numbers = {name: _number(text, name, value) for name, value in given.items() if name != "baseline"}
        kind: Kind = kinds[0]
        rule = Rule(kind=kind, value=numbers.get(kind, math.nan), alpha=numbers.get("alpha", 0.05))
        if kind == "baseline":
            return replace(rule, margin=numbers.get("margin"), baseline=_load(given[kind]))
        if "margin" in numbers:
            raise _bad(text, "a margin is for comparing with a baseline")
        return rule

    def to_json(self) -> dict[str, Any]:
        """Compared when a run is resumed: neither the rule nor its baseline may have changed."""
        value: dict[str, Any] = {"method": betting.METHOD, "kind": self.kind, "alpha": self.alpha}
        if self.baseline is None:
            return value | {self.kind: self.value}
        known = sorted(f"{key} {result.outcome}" for key, result in self.baseline.results.items())
        digest = hashlib.sha256("\n".join(known).encode()).hexdigest()
        return value | {"baseline": self.baseline.place, "outcomes": digest, "margin": self.margin}

    def __str__(self) -> str:
        if self.kind == "rate":
            return f"until the rate is known to be above or below {100 * self.value:g} %"
        if self.kind == "width":
            return f"until the rate is known to within {100 * self.value:g} points"
        close = "" if self.margin is None else f", or equivalent within {100 * self.margin:g} points"
        assert self.baseline is not None
        return f"until it is known to be better or worse than {self.baseline.place}{close}"

    def check(self, identity: Mapping[str, Any], planned: Sequence[EpisodeId]) -> None:
        """Before anything runs. UserError if the baseline did not run these episodes under these rules."""
        if self.baseline is None:
            return
        from handeye.evaluate import compare

        folder = self.baseline.folder
        blocking = compare.different_rules(self.baseline.identity, identity)
        if self.baseline.suite != identity["suite"] or blocking:
            raise UserError(
                f"The baseline {folder} was run under other rules.",
                why="; ".join(blocking) or f"{self.baseline.suite} and {identity['suite']}",
                fix="evaluate both under one protocol",
            )
        if missing := [episode.key for episode in planned if episode.key not in self.baseline.results]:
            raise _missing(folder, missing)

    def decide(self, planned: Sequence[EpisodeId], found: Mapping[str, EpisodeResult]) -> Decision:
        """Round after round in order, as far as they are there without a gap; the first conclusion stands. An error is
        neither success nor failure: a conclusion must hold both ways."""
        worst: Counter[int] = Counter()
        best: Counter[int] = Counter()
        decision, episodes = self._conclude(worst, best, 0, 0), 0
        for number, played in enumerate(rounds(planned), start=1):
            if decision.stop or any(episode.key not in found for episode in played):
                break
            for episode in played:
                low, high = self._outcome(episode, found[episode.key])
                worst[low] += 1
                best[high] += 1
            episodes += len(played)
            decision = self._conclude(worst, best, number, episodes)
        return decision

    def _outcome(self, episode: EpisodeId, result: EpisodeResult) -> tuple[int, int]:
        """At worst and at best: 0 or 1; against a baseline -1, 0 or 1."""
        worst, best = _either_way(result)
        if self.baseline is None:
            return worst, best
        other = self.baseline.results.get(episode.key)
        if other is None:
            raise _missing(self.baseline.folder, [episode.key])
        if differing := different_scene(result, other):
            raise UserError(
                f"The baseline {self.baseline.place} ran {episode.key} in another {differing}.",
                why="only the same episode in the same scene can be compared",
                fix="evaluate both with the same version, simulator and scene files",
            )
        its_worst, its_best = _either_way(other)
        return worst - its_best, best - its_worst

    def _conclude(self, worst: betting.Tally, best: betting.Tally, rounds: int, episodes: int) -> Decision:
        domain = betting.DIFFERENCE if self.kind == "baseline" else betting.RATE
        low, _ = betting.confidence_sequence(worst, domain, self.alpha)
        _, high = betting.confidence_sequence(best, domain, self.alpha)
        conclusion: Conclusion = "undecided"
        if self.kind == "width" and high - low <= self.value:
            conclusion = "narrow"
        if self.kind == "rate" and not low < self.value < high:
            conclusion = "above" if low >= self.value else "below"
        if self.kind == "baseline" and not low < 0 < high:
            conclusion = "better" if low >= 0 else "worse"
        elif (
            self.margin is not None
            and max(betting.equivalence(tally, domain, self.margin) for tally in (worst, best)) <= self.alpha
        ):
            conclusion = "equivalent"
        return Decision(conclusion=conclusion, rounds=rounds, episodes=episodes, low=low, high=high)


def order(planned: Sequence[EpisodeId]) -> list[EpisodeId]:
    """The order in which episodes count, and had best be run: round by round."""
    return [episode for played in rounds(planned) for episode in played]


def rounds(planned: Sequence[EpisodeId]) -> list[list[EpisodeId]]:
    """The n-th episode of every task, tasks in the plan's order. They end with the task that has fewest: a mean over
    fewer tasks would be another mean."""
    by_task: dict[int, list[EpisodeId]] = {}
    for episode in planned:
        by_task.setdefault(episode.task, []).append(episode)
    return [list(played) for played in zip(*by_task.values(), strict=False)]


def different_scene(one: EpisodeResult, other: EpisodeResult) -> str | None:
    """`model` or `scene`: what the records of one episode do not share, or do not both have. None if one is an error,
    which has no scene."""
    if "error" in (one.outcome, other.outcome):
        return None
    return next(
        (name for name in ("model", "scene") if not one.hashes.get(name) or one.hashes[name] != other.hashes.get(name)),
        None,
    )


def _either_way(result: EpisodeResult) -> tuple[int, int]:
    return (0, 1) if result.outcome == "error" else (int(result.outcome == "success"),) * 2


def _load(folder: str) -> Run:
    from handeye.evaluate import runs  # it reads plans, and a plan may hold a rule

    return runs.load(Path(folder))


def _missing(folder: Path, keys: Sequence[str]) -> UserError:
    return UserError(
        f"The baseline {folder} has no episode {keys[0]}" + (f" and {len(keys) - 1} more." if keys[1:] else "."),
        fix="evaluate the same tasks and initial states, or take another baseline",
    )


def _number(text: str, name: str, value: str) -> float:
    try:
        number = float(value)
    except ValueError:
        raise _bad(text, f"{name} is {value!r}, not a number") from None
    if not 0 < number < 1:
        raise _bad(text, f"{name} is {value}, not between 0 and 1")
    return number


def _bad(text: str, why: str) -> UserError:
    return UserError(f"--stop-when {text} is not a rule.", why=why, fix="write " + FORMS.replace("\n", " "))
