"""Does another convention explain the demonstrations better than the one that the policy is run under?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float64

from handeye.conventions.normalize import Normalizer
from handeye.conventions.spec import Specs
from handeye.diagnose import candidates, without
from handeye.diagnose.candidates import Candidate
from handeye.diagnose.cause import Cause
from handeye.diagnose.openloop import Scale, answers
from handeye.diagnose.questions import Asked
from handeye.types import Observation, Policy

SHARE = 0.1
"""Of the error that another convention must take away before it is believed. A working policy's own conventions are the
best by far: on `tiny` every other one at least makes it no better."""

FITTED_SHARE = 0.25
"""The same where six factors were fitted to the very answers that they are judged by."""

SURE = 4.0
"""Standard errors by which it must do so, question by question."""

USEFUL = 0.9
"""Error, in a constant's, that must be left at most: what merely shrinks bad answers explains nothing."""


@dataclass(frozen=True, kw_only=True)
class Known:
    """What the policy and the demonstrations say of themselves, where they do."""

    specs: Specs
    used_state: Normalizer | None = None
    """With which the policy normalises the state."""

    own_state: Normalizer | None = None
    """The same kind, of these demonstrations."""

    used_actions: Normalizer | None = None
    own_actions: Normalizer | None = None
    published_state: Mapping[str, Normalizer] = field(default_factory=dict)
    """The same kind, of each data set whose statistics lie in the checkpoint's folder, by how it is chosen."""

    published_actions: Mapping[str, Normalizer] = field(default_factory=dict)
    language: Mapping[str, str] | None = None
    """The suite's sentence for a demonstration's, where they differ."""


@dataclass(frozen=True, kw_only=True)
class Tried:
    candidate: Candidate
    before: float
    error: float
    share: float
    """Of the error that it takes away; below 0 it adds."""

    sure: float
    """The same, in its standard errors."""

    fitted: bool = False

    @property
    def better(self) -> bool:
        least = FITTED_SHARE if self.fitted else SHARE
        return self.share >= least and self.sure >= SURE and self.error <= USEFUL

    def to_json(self) -> dict[str, Any]:
        return {
            "convention": self.candidate.name,
            "cause": self.candidate.cause,
            "error_before": round(self.before, 4),
            "error": round(self.error, 4),
            "share": round(self.share, 4),
            "standard_errors": round(self.sure, 2),
        }


@dataclass(frozen=True, kw_only=True)
class Searched:
    where: str
    error: float
    """As it is run."""

    per_dimension: tuple[float, ...]
    answers: Float64[np.ndarray, "N T A"]
    tried: tuple[Tried, ...]

    def causes(self, *, suffix: str = "") -> list[Cause]:
        """The best of each kind."""
        found: dict[str, Tried] = {}
        # What has a name comes first: a data set's statistics are not fitted to these demonstrations.
        for each in sorted(self.tried, key=lambda each: (round(each.error, 2), not each.candidate.named, each.error)):
            if each.better:
                found.setdefault(each.candidate.cause, each)
        return [self._cause(each, suffix) for each in found.values()]

    def _cause(self, best: Tried, suffix: str) -> Cause:
        return Cause(
            name=best.candidate.cause + suffix,
            likelihood=0.5 + 0.45 * min(1.0, best.share),
            what=f"{self.where} its answers are better under another convention: {best.candidate.name} "
            f"(error {best.before:.2f} -> {best.error:.2f}; 1 is a constant's)",
            fix=best.candidate.fix,
            evidence={"where": self.where, **best.to_json()},
        )


def search(policy: Policy, asked: Asked, scale: Scale, known: Known, given: np.ndarray | None = None) -> Searched:
    """Tries every candidate. `given`: the policy's answers to these questions, if they are known."""
    seen = asked.observations
    base = answers(policy, seen, asked.chunk) if given is None else given
    plain = scale.per_question(base, asked)
    felt = np.stack([each.proprio for each in seen]).astype(np.float64)
    tried = []
    for candidate in (*_all(known), *without.each_step(policy)):
        changed = base
        if candidate.policy is not None:
            changed = answers(candidate.policy, seen, asked.chunk)
        if candidate.ask is not None:
            questions = [candidate.ask(each) for each in seen]
            if not _differ(questions, seen):
                continue
            changed = answers(policy, questions, asked.chunk)
        if candidate.read is not None:
            changed = candidate.read(base, felt)
        errors = scale.per_question(changed, asked, offset=candidate.offset, axis=candidate.axis)
        before = plain if candidate.axis is None else scale.per_question(base, asked, axis=candidate.axis)
        tried.append(_judged(candidate, before, errors))
    arm = [axis for axis in range(base.shape[-1]) if axis != known.specs.action.gripper_index]
    candidate, factors = candidates.scaled(base, asked.actions(), asked.valid(), arm)
    assert candidate.read is not None
    if (np.abs(np.log2(np.abs(factors[arm]).clip(1e-9))) > 0.5).any():
        tried.append(_judged(candidate, plain, scale.per_question(candidate.read(base, felt), asked), fitted=True))
    return Searched(
        where=asked.where,
        error=float(np.nanmean(plain)),
        per_dimension=tuple(scale.per_dimension(base, asked)),
        answers=base,
        tried=tuple(tried),
    )


def _all(known: Known) -> Iterable[Candidate]:
    yield from candidates.pictures(known.specs.image.cameras)
    yield from candidates.state(known.specs, known.used_state, known.own_state, known.published_state)
    yield from candidates.sentences(known.language or {})
    yield from candidates.gripper(known.specs)
    yield from candidates.actions(known.specs, known.used_actions, known.own_actions, known.published_actions)


def _judged(candidate: Candidate, plain: np.ndarray, errors: np.ndarray, *, fitted: bool = False) -> Tried:
    both = np.isfinite(plain) & np.isfinite(errors)
    before, after = plain[both], errors[both]
    gain = before - after
    spread = gain.std(ddof=1) / np.sqrt(len(gain)) if len(gain) > 1 else np.inf
    return Tried(
        candidate=candidate,
        before=float(before.mean()),
        error=float(after.mean()),
        share=float(gain.mean() / max(before.mean(), 1e-9)),
        sure=float(gain.mean() / spread) if spread > 0 else 0.0,
        fitted=fitted,
    )


def _differ(one: Sequence[Observation], other: Sequence[Observation]) -> bool:
    """A question that a candidate does not change needs no answer."""
    return any(
        a.prompt != b.prompt
        or not np.array_equal(a.proprio, b.proprio)
        or any(not np.array_equal(a.images[name], b.images[name]) for name in a.images)
        for a, b in zip(one, other, strict=True)
    )
