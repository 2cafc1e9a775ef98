"""Does the policy use what it is given? Each input is exchanged for another question's; its answers should move.

How far is measured in how far apart answers to different questions are: 1 means that this input alone decides, 0 that
it is not looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from handeye.diagnose.cause import Cause
from handeye.diagnose.openloop import Scale, answers
from handeye.diagnose.questions import Asked
from handeye.types import Observation, Policy

IGNORED = 0.02
"""Share of the answers' spread below which an input counts as ignored. A blind policy has 0 to the last bits; `tiny`
trained on two tasks has 0.1 and more for each of its inputs."""


@dataclass(frozen=True, kw_only=True)
class Sensitivity:
    shares: dict[str, float]
    """Input -> how far answers move when it is exchanged."""

    spread: float
    """Between answers to different questions, in a constant's error."""

    sentences: int
    """Different ones among the questions."""

    swapped_error: float | None
    """With another task's sentence; None where there is no other."""

    def causes(self, *, error: float, uses_state: bool) -> list[Cause]:
        found = []
        for name, share in self.shares.items():
            if share >= IGNORED:
                continue
            likelihood, fix = _meaning(name, self.sentences, uses_state)
            found.append(
                Cause(
                    name=f"ignores {name}",
                    likelihood=likelihood,
                    what=f"its answers do not depend on {name}: exchanged for another question's, they move by "
                    f"{100 * share:.1f} % of their spread",
                    fix=fix,
                    evidence={"input": name, "share": round(share, 5), "spread": round(self.spread, 4)},
                )
            )
        if self.spread < IGNORED:
            return [
                Cause(
                    name="always the same answer",
                    likelihood=0.95,
                    what=f"whatever it is asked, it answers the same: answers differ by {self.spread:.3f} of what the "
                    "demonstrated actions differ by",
                    fix="the input does not reach the head: check that weights were loaded, and what training saw",
                    evidence={"spread": self.spread},
                )
            ]
        return found


def _meaning(name: str, sentences: int, uses_state: bool) -> tuple[float, str]:
    if name == "the sentence":
        fix = "check that training and evaluation get the task's sentence (`handeye data index` lists what is there)"
        return (0.87 if sentences > 1 else 0.3), fix
    if name == "the state":
        fix = "check NormalizeProprio and the width of the state; a family without proprioception is right to ignore it"
        return (0.6 if uses_state else 0.2), fix
    if name == "all pictures":
        return 0.9, "check that the vision encoder's weights were loaded, and that its tokens reach the head"
    return 0.75, "check that this camera is there, and is not filled with zeros or masked"


def measure(policy: Policy, asked: Asked, scale: Scale, given: np.ndarray, *, elsewhere: Sequence[str]) -> Sensitivity:
    """`given`: the policy's answers as it is run. `elsewhere`: other sentences, where the questions have one alone."""
    seen = asked.observations
    partner = _partners([question.episode for question in asked.questions])
    prompts = list(dict.fromkeys(each.prompt for each in seen))
    others = prompts if len(prompts) > 1 else [text for text in elsewhere if text != prompts[0]]
    cameras = tuple(seen[0].images)

    def exchanged(change: Callable[[Observation, Observation], Observation]) -> np.ndarray:
        return answers(policy, [change(one, seen[partner[i]]) for i, one in enumerate(seen)], asked.chunk)

    def distance(one: np.ndarray, other: np.ndarray) -> float:
        return float((np.abs(one - other) / scale.miss).sum(-1).mean() / max(1, scale.moving))

    spread = distance(given, given[partner])
    found = {"all pictures": exchanged(lambda one, other: replace(one, images=other.images))}
    if len(cameras) > 1:
        for camera in cameras:
            found[f"the picture of {camera}"] = exchanged(
                lambda one, other, camera=camera: replace(  # type: ignore[misc]
                    one, images={**one.images, camera: other.images[camera]}
                )
            )
    found["the state"] = exchanged(lambda one, other: replace(one, proprio=other.proprio))
    swapped = None
    if others:
        told = [replace(one, prompt=_another(one.prompt, others, number)) for number, one in enumerate(seen)]
        found["the sentence"] = answers(policy, told, asked.chunk)
        swapped = float(np.nanmean(scale.per_question(found["the sentence"], asked)))
    return Sensitivity(
        shares={name: distance(given, value) / max(spread, 1e-12) for name, value in found.items()},
        spread=spread,
        sentences=len(prompts),
        swapped_error=swapped if len(prompts) > 1 else None,
    )


def _partners(episodes: Sequence[str]) -> np.ndarray:
    """Of each question another one, from another episode where there is one."""
    count = len(episodes)
    partner = (np.arange(count) + count // 2) % count
    for number in range(count):
        for shift in range(count):
            if episodes[(partner[number] + shift) % count] != episodes[number]:
                partner[number] = (partner[number] + shift) % count
                break
    return partner


def _another(prompt: str, prompts: Sequence[str], number: int) -> str:
    others = [text for text in prompts if text != prompt]
    return others[number % len(others)]
