"""Does an answer change with what is seen, read and felt? Each is swapped with another step's while the rest stays.

A policy that ignores a camera, or the sentence, can have a low error on demonstrations: where the arm is tells much of
where it goes. The change is paired, step by step, with the change of nothing: the same question asked once more, among
other neighbours in its batch. A policy that samples is also asked with other noise, which says how large its changes
are by themselves; in all other questions its noise is the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float64
from scipy.stats import binomtest

from handeye.evaluate.plan import DeclaredPolicy
from handeye.types import Observation

SEED_AWAY = 2**31
"""Added to a question's seed for other noise."""

LEVEL = 0.01
"""Of the sign test: below it the answer is said to depend on an input."""


@dataclass(frozen=True, kw_only=True)
class Change:
    """Of the answers, when one input is another step's."""

    what: str
    arm: float | None
    """Mean over steps of the mean absolute change of the arm's actions, in the environment's units. None: not asked."""

    gripper: float | None
    """Share of the gripper's commands that are others."""

    changed: int = 0
    """Steps whose answer changed more than that of nothing did."""

    unchanged: int = 0
    """Steps whose answer changed less. Ties are neither."""

    steps: int = 0
    p: float | None = None
    """Two-sided sign test of changed against unchanged. None: it is what the others are compared with."""

    why: str = ""

    @property
    def depends(self) -> bool | None:
        return None if self.p is None else self.p < LEVEL and self.changed > self.unchanged

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "depends": self.depends}

    def row(self) -> tuple[str, ...]:
        if self.arm is None:
            return self.what, "–", "–", "–", self.why
        verdict = self.why if self.p is None else "it matters" if self.depends else "no evidence that it matters"
        p = "" if self.p is None else f"{self.p:.2g}"
        return self.what, f"{self.arm:.4f}", f"{self.changed} of {self.steps}", p, verdict


Answers = Float64[np.ndarray, "N T A"]


def measure(policy: DeclaredPolicy, asked: Sequence[Observation], *, batch: int, gripper: int) -> tuple[Change, ...]:
    """Nothing, other noise, all pictures, each picture, sentence, state."""
    answer = _answerer(policy, batch)
    usual = answer(asked)
    # Backwards: every question has other neighbours in its batch.
    none = _apart(usual, answer(asked[::-1])[::-1], gripper)
    others = _partners(asked)
    read = _partners(asked, lambda one, other: one.prompt != other.prompt)
    noisy = [replace(each, seed=(each.seed + SEED_AWAY) % 2**32) for each in asked]
    changes = [
        Change(what="nothing, asked again", arm=none[0].mean().item(), gripper=none[1].mean().item(),
               steps=len(asked), why="the others are paired with this"),
        _change("other noise", usual, answer(noisy), none, gripper),
    ]  # fmt: skip
    cameras = policy.specs.image.cameras
    sets = [cameras, *([(name,) for name in cameras] if len(cameras) > 1 else [])]
    for names in sets:
        if not names:
            continue
        swapped = [
            replace(each, images={**each.images, **{name: other.images[name] for name in names}})
            for each, other in zip(asked, others, strict=True)
        ]
        title = "the pictures" if names == cameras and len(cameras) > 1 else f"the picture of {names[0]}"
        changes.append(_change(title, usual, answer(swapped), none, gripper))
    if any(one.prompt == other.prompt for one, other in zip(asked, read, strict=True)):
        why = "all demonstrations have one sentence"
        changes.append(Change(what="the sentence", arm=None, gripper=None, why=why))
    else:
        swapped = [replace(each, prompt=other.prompt) for each, other in zip(asked, read, strict=True)]
        changes.append(_change("the sentence", usual, answer(swapped), none, gripper))
    swapped = [replace(each, proprio=other.proprio) for each, other in zip(asked, others, strict=True)]
    changes.append(_change("the state", usual, answer(swapped), none, gripper))
    return tuple(changes)


def _answerer(policy: DeclaredPolicy, batch: int) -> Callable[[Sequence[Observation]], Answers]:
    def answer(asked: Sequence[Observation]) -> Answers:
        found = [
            chunk.actions for start in range(0, len(asked), batch) for chunk in policy.act(asked[start : start + batch])
        ]
        return np.asarray(found, np.float64)

    return answer


def _partners(
    asked: Sequence[Observation], fits: Callable[[Observation, Observation], bool] = lambda one, other: True
) -> list[Observation]:
    """For each step another one that fits, the same ones every time: the next from half of them on. Itself if none
    fits."""
    count = len(asked)
    found = []
    for index, one in enumerate(asked):
        order = [asked[(index + count // 2 + away) % count] for away in range(count)]
        found.append(next((each for each in order if each is not one and fits(one, each)), one))
    return found


Apart = tuple[Float64[np.ndarray, "N"], Float64[np.ndarray, "N"]]
"""Per step: mean absolute difference of the arm, share of other gripper commands."""


def _apart(one: Answers, other: Answers, gripper: int) -> Apart:
    arm = np.arange(one.shape[2]) != gripper
    grip = np.sign(one[..., gripper]) != np.sign(other[..., gripper])
    return np.abs(one - other)[..., arm].mean((1, 2)), grip.mean(1, dtype=np.float64)


def _change(what: str, usual: Answers, answers: Answers, none: Apart, gripper: int) -> Change:
    arm, grip = _apart(usual, answers, gripper)
    more, less = int(((arm + grip) > none[0] + none[1]).sum()), int(((arm + grip) < none[0] + none[1]).sum())
    p = float(binomtest(more, more + less).pvalue) if more + less else 1.0
    return Change(
        what=what, arm=float(arm.mean()), gripper=float(grip.mean()),
        changed=more, unchanged=less, steps=len(arm), p=p,
    )  # fmt: skip
