"""A rule that may have ended a run: what it says of the records that are there, and so which of them count."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from handeye.errors import UserError
from handeye.evaluate import runs
from handeye.evaluate.runs import Run
from handeye.evaluate.sequential import Decision, Rule
from handeye.evaluate.summary import SUMMARY
from handeye.records import read_json

CONCLUSIONS = {
    "undecided": "it has not concluded anything yet",
    "above": "the rate is above it",
    "below": "the rate is below it",
    "narrow": "the rate is known closely enough",
    "better": "the policy is better than the baseline",
    "worse": "the policy is worse than the baseline",
    "equivalent": "the policy and the baseline are equivalent",
}


@dataclass(frozen=True, kw_only=True)
class Stopping:
    """A rule and its decision."""

    rule: str
    """In words."""

    decision: Decision | None
    """None: nobody knows it."""

    trouble: str = ""
    """Why the rule cannot be asked here. A decision is then the one that the run wrote down."""

    def __str__(self) -> str:
        said = f"Run {self.rule}"
        if self.decision is None:
            return f"{said}. Whether it stopped for that cannot be checked here: {self.trouble}."
        conclusion = CONCLUSIONS.get(self.decision.conclusion, self.decision.conclusion)
        if self.decision.stop:
            rounds = count(self.decision.rounds, "round")
            said += f". That was so after {self.decision.episodes} episodes ({rounds} of one per task): {conclusion}."
        else:
            said += f"; {conclusion}."
        return said + (f" So the run wrote; it cannot be checked here: {self.trouble}." if self.trouble else "")


def stopping(run: Run) -> Stopping | None:
    """None without a rule. A rule that cannot be read or asked is shown as it is recorded."""
    said = run.stop_when
    if said is None:
        return None
    recorded = "by the rule " + ", ".join(f"{name} {value}" for name, value in said.items())
    try:
        rule = _restored(said)
        if rule.to_json() != dict(said):
            changed = "its baseline has changed since" if rule.baseline else "another version made it"
            return Stopping(rule=str(rule), decision=_written(run), trouble=changed)
        return Stopping(rule=str(rule), decision=rule.decide(run.planned, run.results))
    except UserError as error:
        return Stopping(rule=recorded, decision=_written(run), trouble=error.what.rstrip("."))
    except (KeyError, TypeError, ValueError) as error:
        trouble = f"it cannot be read ({type(error).__name__}: {error})"
        return Stopping(rule=recorded, decision=_written(run), trouble=trouble)


def _restored(said: Mapping[str, Any]) -> Rule:
    """From what a plan records (`Rule.to_json`)."""
    if said["kind"] == "baseline":
        baseline = runs.load(Path(said["baseline"]))
        return Rule(kind="baseline", alpha=said["alpha"], margin=said["margin"], baseline=baseline)
    return Rule(kind=said["kind"], alpha=said["alpha"], value=said[said["kind"]])


def _written(run: Run) -> Decision | None:
    """What the run's own summary says. None if there is none."""
    path = run.files / SUMMARY
    try:
        return Decision(**read_json(path, what="a run's summary")["decision"])
    except (UserError, KeyError, TypeError):
        return None


def count(number: int, thing: str) -> str:
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"
