"""All evidence together: what was measured, and the causes in order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

import numpy as np

from handeye.conventions.normalize import Normalizer
from handeye.conventions.spec import Specs
from handeye.data.source import EpisodeRef, Source
from handeye.data.statistics import Statistics
from handeye.data.statistics import measure as measure_statistics
from handeye.diagnose import conventions, declared, live, questions, ranges, sensitivity, steadiness
from handeye.diagnose.cause import Cause, ordered
from handeye.diagnose.conventions import Known, Searched
from handeye.diagnose.live import Played, Stage
from handeye.diagnose.openloop import Scale, answers
from handeye.diagnose.questions import Asked
from handeye.diagnose.ranges import Range
from handeye.diagnose.sensitivity import Sensitivity
from handeye.diagnose.steadiness import Steadiness
from handeye.errors import UserError
from handeye.types import Observation, Policy

CONSTANT = 0.95
"""Error from which answers are no better than a constant's."""


@runtime_checkable
class Declared(Policy, Protocol):
    """A policy that says what its numbers mean."""

    @property
    def specs(self) -> Specs: ...


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    causes: tuple[Cause, ...]
    """The likeliest first. None: nothing was found."""

    asked: Asked
    chance: float
    """Error of answers to other questions: what a policy that guesses by heart would have."""

    recorded: Searched | None
    """None where it does not answer with numbers."""

    steady: Steadiness | None
    used: Sensitivity | None
    ranges: tuple[Range, ...]
    simulated: Searched | None = None
    """At the expert's states."""

    shown: tuple[Observation, ...] = ()
    """In the simulator, to the acting policy or along the expert's way."""

    played: Played | None = None

    def to_json(self) -> dict[str, Any]:
        return {
            "causes": [cause.to_json() for cause in self.causes],
            "questions": len(self.asked.questions),
            "error": {"constant": 1.0, "other_questions": round(self.chance, 4), **_searched(self.recorded)},
            "simulator": _searched(self.simulated) | ({} if self.played is None else self.played.to_json()),
            "steadiness": None if self.steady is None else vars(self.steady),
            "sensitivity": None
            if self.used is None
            else {
                "shares": {name: round(share, 5) for name, share in self.used.shares.items()},
                "swapped_sentence_error": self.used.swapped_error,
            },
            "ranges": [each.to_json() for each in self.ranges],
        }


def _searched(found: Searched | None) -> dict[str, Any]:
    if found is None:
        return {}
    return {
        "policy": round(found.error, 4),
        "per_dimension": [round(float(value), 4) for value in found.per_dimension],
        "conventions": [each.to_json() for each in sorted(found.tried, key=lambda each: each.error)],
    }


def diagnose(
    policy: Declared,
    source: Source,
    *,
    count: int = 64,
    stage: Stage | None = None,
    sentences: Sequence[str] = (),
    published: Mapping[str, Statistics] | None = None,
) -> Diagnosis:
    """`stage`: where to look at it live. `sentences`: the suite's. `published`: the statistics that its checkpoint's
    folder has, by how they are chosen."""
    cameras = policy.specs.image.cameras
    pipeline = declared.pipeline_of(policy)
    said, language = declared.sentences(source.episodes, sentences)
    causes = [*declared.specs(policy.specs, source.specs), *said, *declared.crops(pipeline)]

    [first] = questions.only(questions.recorded(source, 1, 1).observations, cameras)
    chunk = len(policy.act([first])[0].actions)
    asked = _through(questions.recorded(source, count, chunk), cameras)
    scale = Scale.of(asked)
    base = answers(policy, asked.observations, chunk)
    chance = float(np.nanmean(scale.per_question(np.roll(asked.actions(), len(base) // 2 + 1, axis=0), asked)))
    if broken := steadiness.broken(base):
        return Diagnosis(
            causes=tuple(ordered([*broken, *causes])), asked=asked, chance=chance, recorded=None, steady=None,
            used=None, ranges=(),
        )  # fmt: skip

    vectors = [_vectors(source, ref) for ref in source.episodes]
    known = _known(policy, pipeline, vectors, language, published or {})
    steady = steadiness.measure(policy, asked)
    recorded = conventions.search(policy, asked, scale, known, base)
    used = sensitivity.measure(policy, asked, scale, base, elsewhere=list(sentences))
    measured = [
        ranges.of_state(pipeline, asked.observations, known.used_state),
        ranges.of_actions(np.concatenate([actions for actions, _ in vectors]), known.used_actions),
    ]
    found = tuple(each for each in measured if each is not None)
    causes += steady.causes() + recorded.causes()
    causes += used.causes(error=recorded.error, uses_state=known.used_state is not None)
    causes += [cause for each in found for cause in each.causes()]

    simulated, played, shown = None, None, tuple[Observation, ...]()
    if stage is not None:
        at_expert = live.at_experts_states(stage, cameras, chunk)
        if at_expert is not None:
            shown = tuple(at_expert.observations)
            simulated = conventions.search(policy, at_expert, scale, known)
            causes += _only_there(simulated.causes(suffix=" in the simulator"), causes)
        played = live.play(stage, policy, policy.specs)
        shown = shown or played.seen
        demonstrated = [actions for actions, _ in vectors]
        causes += live.causes(played, demonstrated, policy.specs, stage.protocol)
    if recorded.error >= CONSTANT and not any(cause.likelihood >= 0.7 for cause in causes):
        causes.append(_knows_nothing(recorded.error))
    return Diagnosis(
        causes=tuple(ordered(causes)), asked=asked, chance=chance, recorded=recorded, steady=steady, used=used,
        ranges=found, simulated=simulated, shown=shown, played=played,
    )  # fmt: skip


def _vectors(source: Source, ref: EpisodeRef) -> tuple[np.ndarray, np.ndarray]:
    """Actions and proprioception of one demonstration, in double precision."""
    episode = source.load(ref, images=False)
    return episode.actions.astype(np.float64), episode.proprio.astype(np.float64)


def _through(asked: Asked, cameras: Sequence[str]) -> Asked:
    seen = questions.only(asked.observations, cameras)
    return replace(
        asked,
        questions=tuple(
            replace(question, observation=observation)
            for question, observation in zip(asked.questions, seen, strict=True)
        ),
    )


def _known(
    policy: Declared,
    pipeline: Any,
    vectors: list[tuple[np.ndarray, np.ndarray]],
    language: Any,
    published: Mapping[str, Statistics],
) -> Known:
    state, action = declared.normalizers(pipeline)
    own = measure_statistics(vectors)

    def like(used: Normalizer | None, statistics: Any) -> Normalizer | None:
        if used is None or used.width != statistics.width:
            return None
        try:
            made: Normalizer = statistics.normalizer(used.kind, mask=used.mask)
        except UserError:  # it has no such rows: nobody could have decoded with it
            return None
        return made

    def each(used: Normalizer | None, part: str) -> dict[str, Normalizer]:
        found = {key: like(used, getattr(statistics, part)) for key, statistics in published.items()}
        return {key: made for key, made in found.items() if made is not None}

    return Known(
        specs=policy.specs,
        used_state=state,
        own_state=like(state, own.proprio),
        used_actions=action,
        own_actions=like(action, own.action),
        published_state=each(state, "proprio"),
        published_actions=each(action, "action"),
        language=language,
    )


def _only_there(simulated: list[Cause], before: list[Cause]) -> list[Cause]:
    """What demonstrations show already is no matter of the simulator."""
    known = {cause.name for cause in before}
    return [cause for cause in simulated if cause.name.removesuffix(" in the simulator") not in known]


def _knows_nothing(error: float) -> Cause:
    return Cause(
        name="no better than a constant",
        likelihood=0.8,
        what=f"on demonstrations its answers are off by {error:.2f} of what a constant is, and no other convention "
        "explains them",
        fix="check that these weights are the trained ones, and complete (`handeye inspect`; an adapter merged twice "
        "looks like this, and another backbone); else train longer, or give the demonstrations it was trained on",
        evidence={"error": error},
    )
