"""`handeye evaluate-offline`: a policy's answers on demonstrations, compared with what was demonstrated.

Nothing here knows how training judges; its measures are handed over (`Judge`), so that the figures of a validation and
these have one definition. What differs: here the policy answers as it acts, images and decoding included, and the
truth is the demonstrated action itself.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, runtime_checkable
from typing import Protocol as Interface

import numpy as np
from jaxtyping import Float32, Integer

from handeye.console import progress, say, table, warn
from handeye.conventions.spec import Specs, require_same
from handeye.data.loading.demonstrations import Demonstrations
from handeye.data.source import EpisodeRef
from handeye.errors import UserError
from handeye.evaluate.offline_config import OfflineConfig
from handeye.evaluate.offline_sensitivity import Change, measure
from handeye.evaluate.plan import DeclaredPolicy
from handeye.records import provenance, write_json
from handeye.types import Observation

DIMENSIONS = ("x", "y", "z", "roll", "pitch", "yaw", "gripper")
"""Of a LIBERO action."""


@runtime_checkable
class Judge(Interface):
    """train/validate.py's measures: the best constant answer of some actions, and all figures of one comparison."""

    def constant(self, actions: Float32[np.ndarray, "N A"]) -> Any: ...

    def compare(
        self, predicted: Float32[np.ndarray, "N A"], true: Float32[np.ndarray, "N A"], constant: Any, *, gripper: int
    ) -> dict[str, Any]: ...


@dataclass(frozen=True)
class Split:
    """Which demonstrations the policy is judged on, and which the constant answer is made from."""

    judged: Demonstrations
    baseline: Demonstrations
    held_out: bool | None
    """None: nothing tells whether it was trained on them."""

    why: str


@dataclass(frozen=True)
class Asked:
    """One step of a demonstration."""

    observation: Observation
    true: Float32[np.ndarray, "T A"]
    """The demonstrated actions from here to the episode's end, at most a chunk."""


def run(config: OfflineConfig, policy: DeclaredPolicy | None, judge: Judge) -> dict[str, Any]:
    if policy is None:
        raise UserError(
            "The expert cannot be asked about demonstrations.",
            why="it reads the simulator's state",
            fix="give a checkpoint; `handeye data replay` tells whether demonstrations succeed",
        )
    demos = Demonstrations(config.dataset)
    _check_specs(config, policy.specs, demos.specs)
    split = split_of(demos, getattr(getattr(policy, "manifest", None), "provenance", {}))
    if split.held_out is not True:
        warn(split.why)
    if begun := getattr(policy, "identity", {}).get("partial"):
        warn(begun)
    asked = list(steps(split.judged, config.examples, _chunk(policy)))
    predicted, true = _answered(policy, asked, config.batch)
    actions = np.concatenate([split.baseline.vectors().of(ref)[0] for ref in split.baseline.episodes])
    gripper = demos.specs.action.gripper_index
    constant = judge.constant(actions.astype(np.float32))
    figures = judge.compare(predicted, true, constant, gripper=gripper)
    changes = _sensitivity(config, policy, split.judged, gripper)
    result = {
        "policy": {"address": config.policy, **getattr(policy, "identity", {})},
        "compute": getattr(policy, "compute", None),
        "dataset": {"path": str(config.dataset), "episodes": len(demos), "digest": demos.digest()},
        "judged": {
            "episodes": [ref.id for ref in split.judged.episodes],
            "held_out": split.held_out,
            "why": split.why,
            "examples": len(asked),
        },
        "figures": figures,
        "sensitivity": [change.to_json() for change in changes],
        "provenance": provenance(),
    }
    if config.out is not None:
        write_json(config.out, result)
    if config.json:
        say(json.dumps(result, indent=2, sort_keys=True))
    else:
        _tell(split, figures, changes, len(asked))
    return result


def split_of(demos: Demonstrations, told: Mapping[str, Any]) -> Split:
    """`told`: the checkpoint's provenance. The episodes that training held out follow from its settings and the set's
    own digest; from another set, or without them, nothing follows."""
    training, data = told.get("training"), told.get("data")
    if not isinstance(training, Mapping) or not isinstance(data, Mapping):
        return Split(demos, demos, None, "the checkpoint does not say what it was trained on: these demonstrations may "
                     "be among it, and then the figures are those of learning by heart")  # fmt: skip
    if data.get("digest") != demos.digest():
        return Split(
            demos, demos, None,
            "this is not the set that the checkpoint was trained on (another digest): whether any of its "
            "demonstrations are in that one too is not known",
        )  # fmt: skip
    share, seed = training.get("held_out"), training.get("seed")
    if not isinstance(share, float | int) or not isinstance(seed, int):
        return Split(demos, demos, False, "the checkpoint was trained on this set and held nothing of it out: these "
                     "are figures of what it has seen")  # fmt: skip
    seen, held_out = demos.split(float(share), seed)
    if held_out is None:
        return Split(demos, demos, False, "the checkpoint was trained on all of this set")
    based = " (its base may have seen them; it does not say)" if told.get("base") else ""
    return Split(held_out, seen, True, f"held out of training by its own settings{based}")


def steps(demos: Demonstrations, count: int, chunk: int) -> Iterator[Asked]:
    """Spread evenly over all steps of all demonstrations. The seed of each is its number."""
    lengths = np.array([ref.length for ref in demos.episodes])
    chosen = np.linspace(0, lengths.sum() - 1, min(count, int(lengths.sum()))).round().astype(np.int64)
    yield from at(demos, chosen, chunk)


def at(demos: Demonstrations, numbers: Integer[np.ndarray, "N"], chunk: int) -> Iterator[Asked]:
    """Steps by their number in the set, in rising order; each demonstration is read once."""
    ends = np.cumsum([ref.length for ref in demos.episodes])
    which = np.searchsorted(ends, numbers, side="right")
    loaded: tuple[EpisodeRef, Any] | None = None
    for number, index in zip(numbers.tolist(), which.tolist(), strict=True):
        ref = demos.episodes[index]
        if loaded is None or loaded[0] is not ref:
            loaded = (ref, demos.load(ref))
        episode, row = loaded[1], int(number - (ends[index] - ref.length))
        yield Asked(
            Observation(
                images={name: np.asarray(frames[row]) for name, frames in episode.images.items()},
                proprio=np.asarray(episode.proprio[row], np.float32),
                prompt=ref.prompt,
                seed=int(number),
            ),
            np.asarray(episode.actions[row : row + chunk], np.float32),
        )


def _answered(
    policy: DeclaredPolicy, asked: Sequence[Asked], batch: int
) -> tuple[Float32[np.ndarray, "N A"], Float32[np.ndarray, "N A"]]:
    """Answered and demonstrated actions, step by step, as far as the demonstrations go."""
    cameras = policy.specs.image.cameras
    predicted, true = [], []
    with progress("asked", len(asked)) as advance:
        for start in range(0, len(asked), batch):
            some = asked[start : start + batch]
            answers = policy.act([seen_by(each.observation, cameras) for each in some])
            for each, answer in zip(some, answers, strict=True):
                known = min(len(each.true), len(answer.actions))
                predicted.append(np.asarray(answer.actions[:known], np.float32))
                true.append(each.true[:known])
            advance(len(some))
    return np.concatenate(predicted), np.concatenate(true)


def seen_by(observation: Observation, cameras: Sequence[str]) -> Observation:
    """Only what the policy looks through, as in the simulator."""
    return Observation(
        images={name: observation.images[name] for name in cameras},
        proprio=observation.proprio,
        prompt=observation.prompt,
        seed=observation.seed,
    )


def _sensitivity(
    config: OfflineConfig, policy: DeclaredPolicy, demos: Demonstrations, gripper: int
) -> tuple[Change, ...]:
    if not config.sensitivity:
        return ()
    asked = [each.observation for each in steps(demos, config.sensitivity, 1)]
    cameras = policy.specs.image.cameras
    return measure(policy, [seen_by(each, cameras) for each in asked], batch=config.batch, gripper=gripper)


def _chunk(policy: DeclaredPolicy) -> int:
    """How many demonstrated actions an answer can be compared with; the answer itself says how many it has."""
    return int(getattr(policy, "chunk", 64))


def _check_specs(config: OfflineConfig, wanted: Specs, found: Specs) -> None:
    here, there = f"the policy {config.policy}", f"the demonstrations {config.dataset}"
    require_same(wanted.action, found.action, here=here, there=there)
    require_same(wanted.proprio, found.proprio, here=here, there=there)
    if wanted.image.cameras:
        require_same(wanted.image, found.image.only(wanted.image.cameras, here=there), here=here, there=there)


# ---- for people ------------------------------------------------------------------------------------------------------


def _tell(split: Split, figures: Mapping[str, Any], changes: Sequence[Change], asked: int) -> None:
    say(f"{asked} steps of {len(split.judged)} demonstrations, {figures['steps']} actions: {split.why}")
    names = DIMENSIONS if len(figures["l1"]) == len(DIMENSIONS) else tuple(map(str, range(len(figures["l1"]))))
    rows = [
        (name, f"{mine:.4f}", f"{blind:.4f}", *_signs(figures, index))
        for index, (name, mine, blind) in enumerate(zip(names, figures["l1"], figures["l1_blind"], strict=True))
    ]
    rows.append(("arm", f"{figures['arm_l1']:.4f}", f"{figures['arm_l1_blind']:.4f}", "", "", ""))
    table(
        "L1 of the actions, and the sign among steps that move (chance: the best constant answer)",
        ("", "L1", "chance", "sign right", "chance", "moving"),
        rows,
    )
    say(f"gripper right {figures['gripper']:.1%}, chance {figures['gripper_blind']:.1%}")
    if figures["arm_l1"] >= figures["arm_l1_blind"]:
        warn("a constant answer would be as near: this policy has not learnt to look, or its conventions are wrong")
    if changes:
        table(
            "What the answer depends on: the arm's mean change when this is another step's",
            ("", "change", "steps changed", "p", "verdict"),
            [change.row() for change in changes],
        )


def _signs(figures: Mapping[str, Any], index: int) -> tuple[str, str, str]:
    if index >= len(figures["sign"]):  # the gripper's has a line of its own
        return "", "", ""
    sign = figures["sign"][index]
    if sign["right"] is None:
        return "–", "–", "0%"
    return f"{sign['right']:.1%}", f"{sign['right_blind']:.1%}", f"{sign['moving']:.0%}"
