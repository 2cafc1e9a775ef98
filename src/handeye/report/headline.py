"""What a run comes to, and what must be said beside it: errors, gaps, and a rule that ended it early."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Literal

from handeye.evaluate import betting
from handeye.evaluate.sequential import rounds
from handeye.evaluate.statistics import Interval, Rate
from handeye.evaluate.summary import rate_of
from handeye.report.load import Shown
from handeye.report.stopping import count

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
    """Over whole rounds of what counts, as bets need them; an error may have been either."""
    worst, best = Counter[int](), Counter[int]()
    counted = {result.episode.key: result for result in shown.results}
    for played in rounds(shown.run.planned):
        if any(episode.key not in counted for episode in played):
            break
        for result in (counted[episode.key] for episode in played):
            worst[result.outcome == "success"] += 1
            best[result.outcome != "failure"] += 1
    low, _ = betting.confidence_sequence(worst, betting.RATE, 0.05)
    _, high = betting.confidence_sequence(best, betting.RATE, 0.05)
    return low, high


def state(shown: Shown) -> str:
    """In a word or two."""
    if shown.stopped:
        return "stopped early" if len(shown.results) < len(shown.run.planned) else "complete"
    part = "" if shown.part == (1, 1) else "part {} of {}".format(*shown.part)
    if shown.missing:
        return f"{part and part + ', '}{shown.missing} of {len(shown.own)} missing"
    return part or "complete"


def notices(shown: Shown) -> list[str]:
    """Sentences without which the rate would be misread; the gravest first."""
    said = []
    errors = shown.summary["errors"]
    if shown.missing:
        said.append(f"Not finished: {shown.missing} of {len(shown.own)} planned episodes are missing.")
    if shown.part != (1, 1):
        number, parts = shown.part
        said.append(
            f"Part {number} of {parts} of an evaluation of {len(shown.run.planned)} episodes, every task a bit; "
            "`handeye merge-runs` puts parts together."
        )
    if errors:
        low, high = (100 * shown.summary["if_errors_were"][side] for side in ("failures", "successes"))
        said.append(
            f"{count(errors, 'episode')} ended in an error and {'is' if errors == 1 else 'are'} not in the rate. "
            f"Had {'it' if errors == 1 else 'they all'} failed or succeeded: {low:.1f} % or {high:.1f} %."
        )
    if shown.ended is not None:
        said.append(f"{shown.ended} Its interval holds at whatever moment one stops; intervals per task do not.")
    if shown.beyond:
        said.append(
            f"{count(len(shown.beyond), 'episode')} ran beyond that and count nowhere; the grid has them, pale."
        )
    if exploded := sum(result.unstable > 0 for result in shown.recorded):
        said.append(f"In {count(exploded, 'episode')} the simulation exploded and was put back to its start.")
    if shown.identity["policy"].get("partial"):
        said.append(shown.identity["policy"]["partial"])
    if shown.identity["simulator"].get("trouble"):
        said.append(f"The simulator: {shown.identity['simulator']['trouble']}")
    if len(commits(shown)) > 1:
        said.append(f"It was made under more than one commit: {', '.join(commits(shown))}.")
    return said


def baseline(shown: Shown) -> str:
    """What kind of one it is; nothing of a policy."""
    return BASELINES.get(str(shown.identity["policy"].get("name")), "")


def commits(shown: Shown) -> list[str]:
    """That it ran under, in order of time. Sessions that say nothing of one are left out."""
    found = [(session.get("provenance") or {}).get("git") for session in shown.sessions]
    return list(dict.fromkeys(git["commit"][:10] for git in found if git))
