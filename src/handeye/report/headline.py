"""What a run comes to, and what must be said beside it: errors, gaps, and a rule that ended it early."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from handeye.errors import UserError
from handeye.evaluate import betting, runs
from handeye.evaluate.sequential import Decision, Rule, rounds
from handeye.evaluate.statistics import Interval, Rate
from handeye.evaluate.summary import rate_of
from handeye.report.load import Shown

CONCLUSIONS = {
    "undecided": "it has not concluded anything yet",
    "above": "the rate is above it",
    "below": "the rate is below it",
    "narrow": "the rate is known closely enough",
    "better": "the policy is better than the baseline",
    "worse": "the policy is worse than the baseline",
    "equivalent": "the policy and the baseline are equivalent",
}
BASELINES = {
    "expert": "scripted, sees the simulator's state: what the tasks allow",
    "zero": "a baseline that stands still",
    "noise": "a baseline of uniform noise",
}


@dataclass(frozen=True, kw_only=True)
class Headline:
    """A rate and the interval that may be read."""

    rate: Rate
    """Over the episodes without errors, with Wilson's interval."""

    mean: float
    """Each task counting the same. NaN without an episode."""

    interval: Interval
    kind: Literal["suite", "sequence"]
    """`suite`: stratified by task. `sequence`: right at whatever moment the run was stopped; the rule may have chosen a
    flattering one, and then no other interval holds."""

    @property
    def unequal(self) -> bool:
        """Tasks have different numbers of episodes, so that the mean over tasks is not the rate over episodes."""
        return bool(self.rate.episodes) and abs(self.mean - self.rate.value) > 5e-4


def headline(shown: Shown) -> Headline:
    rate, suite = rate_of(shown.results), shown.summary["suite"]
    mean = float("nan") if suite["mean"] is None else suite["mean"]
    if shown.run.stop_when is not None:
        return Headline(rate=rate, mean=mean, interval=_sequence(shown), kind="sequence")
    low, high = suite["stratified_95"]
    return Headline(rate=rate, mean=mean, interval=(low, high), kind="suite")


def _sequence(shown: Shown) -> Interval:
    """Over whole rounds, as bets need them; an error may have been either."""
    worst, best = Counter[int](), Counter[int]()
    for played in rounds(shown.run.planned):
        found = [shown.run.results.get(episode.key) for episode in played]
        if None in found:
            break
        for result in found:
            assert result is not None
            worst[result.outcome == "success"] += 1
            best[result.outcome != "failure"] += 1
    low, _ = betting.confidence_sequence(worst, betting.RATE, 0.05)
    _, high = betting.confidence_sequence(best, betting.RATE, 0.05)
    return low, high


@dataclass(frozen=True, kw_only=True)
class Stopping:
    """A rule that may end a run, and what it says of the records that are there."""

    rule: str
    """In words."""

    decision: Decision | None
    """None: it cannot be asked here; `trouble` says why."""

    trouble: str = ""

    def __str__(self) -> str:
        if self.decision is None:
            return f"Run {self.rule}. Whether it stopped for that cannot be checked here: {self.trouble}."
        if not self.decision.stop:
            return f"Run {self.rule}; {CONCLUSIONS[self.decision.conclusion]}."
        return (
            f"Run {self.rule}. That was so after {self.decision.episodes} episodes "
            f"({_count(self.decision.rounds, 'round')} of one per task): {CONCLUSIONS[self.decision.conclusion]}."
        )


def stopping(shown: Shown) -> Stopping | None:
    """None without a rule. A rule that cannot be read or asked is shown as it is recorded."""
    said = shown.run.stop_when
    if said is None:
        return None
    recorded = "by the rule " + ", ".join(f"{name} {value}" for name, value in said.items())
    try:
        rule = _restored(said)
        if rule.to_json() != dict(said):
            changed = "its baseline has changed since" if rule.baseline else "it was made by another version"
            return Stopping(rule=str(rule), decision=None, trouble=changed)
        return Stopping(rule=str(rule), decision=rule.decide(shown.run.planned, shown.run.results))
    except UserError as error:
        return Stopping(rule=recorded, decision=None, trouble=error.what.rstrip("."))
    except (KeyError, TypeError, ValueError) as error:
        return Stopping(rule=recorded, decision=None, trouble=f"it cannot be read ({type(error).__name__}: {error})")


def _restored(said: Mapping[str, Any]) -> Rule:
    """From what a plan records (`Rule.to_json`)."""
    if said["kind"] == "baseline":
        baseline = runs.load(Path(said["baseline"]))
        return Rule(kind="baseline", alpha=said["alpha"], margin=said["margin"], baseline=baseline)
    return Rule(kind=said["kind"], alpha=said["alpha"], value=said[said["kind"]])


def state(shown: Shown, ended: Stopping | None) -> str:
    """In a word or two."""
    if ended is not None and ended.decision is not None and ended.decision.stop:
        return "stopped early" if shown.missing else "complete"
    if shown.missing:
        return f"{shown.missing} of {len(shown.run.planned)} missing"
    return "complete"


def notices(shown: Shown, ended: Stopping | None) -> list[str]:
    """Sentences without which the rate would be misread; the gravest first."""
    said = []
    errors, missing, planned = shown.summary["errors"], shown.missing, len(shown.run.planned)
    if missing and state(shown, ended) != "stopped early":
        said.append(f"Not finished: {missing} of {planned} planned episodes are missing.")
    if errors:
        low, high = (100 * shown.summary["if_errors_were"][side] for side in ("failures", "successes"))
        said.append(
            f"{_count(errors, 'episode')} ended in an error and {'is' if errors == 1 else 'are'} not in the rate. "
            f"Had {'it' if errors == 1 else 'they all'} failed or succeeded: {low:.1f} % or {high:.1f} %."
        )
    if ended is not None:
        said.append(f"{ended} Its interval holds at whatever moment one stops; intervals per task do not.")
    if exploded := sum(result.unstable > 0 for result in shown.results):
        said.append(f"In {_count(exploded, 'episode')} the simulation exploded and was put back to its start.")
    if shown.identity["simulator"].get("trouble"):
        said.append(f"The simulator: {shown.identity['simulator']['trouble']}")
    if len(commits(shown)) > 1:
        said.append(f"It was resumed under another commit: {', '.join(commits(shown))}.")
    return said


def baseline(shown: Shown) -> str:
    """What kind of one it is; nothing of a policy."""
    return BASELINES.get(str(shown.identity["policy"].get("name")), "")


def commits(shown: Shown) -> list[str]:
    """That it ran under, in order of time. Sessions that say nothing of one are left out."""
    found = [(session.get("provenance") or {}).get("git") for session in shown.sessions]
    return list(dict.fromkeys(git["commit"][:10] for git in found if git))


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"
