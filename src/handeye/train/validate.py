"""How close are the answers on demonstrations that training never saw, and how close would a guess be?

Open-loop errors do not tell how often a task succeeds (`handeye evaluate` does); they tell early that something is
wrong. So each figure stands beside the best that a policy blind to its input could have: the training data's median
action, and its commoner sign.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float32, Int64
from torch import Tensor

from handeye.conventions.spec import ActionSpec
from handeye.data.loading.samples import Samples

STILL = 0.05
"""Of the action's range: below it a dimension counts as not moving. The limit that earlier LIBERO fine-tuning notebooks
use for sign accuracy; without it a coin flip on noise drowns the figure."""


@runtime_checkable
class Answers(Protocol):
    def sample_actions(self, batch: Mapping[str, Tensor]) -> Tensor:
        """As every model does."""


@dataclass(frozen=True, kw_only=True)
class Blind:
    """The best constant answer."""

    median: Float32[np.ndarray, "A"]
    """In the robot's units; of all constants it has the least L1 error."""

    sign: Float32[np.ndarray, "A"]
    """The commoner sign among the steps that move; the gripper's commoner command."""

    token: Int64[np.ndarray, "A"] | None = None
    """The commonest token per dimension, of models that speak their actions."""


def blind(samples: Samples) -> Blind:
    demonstrated, proprio = samples.demonstrated()
    targets = samples.pipeline.targets(demonstrated, proprio)
    found = constant(samples.pipeline.decode(targets, proprio))
    if not np.issubdtype(targets.dtype, np.integer):
        return found
    commonest = [np.bincount(column).argmax() for column in targets.reshape(-1, targets.shape[-1]).T]
    return replace(found, token=np.array(commonest, np.int64))


def constant(actions: Float32[np.ndarray, "N A"]) -> Blind:
    """The best one for these actions, in the robot's units."""
    moving = np.where(np.abs(actions) > STILL, np.sign(actions), 0)
    sign = np.where(moving.sum(0) >= 0, 1, -1).astype(np.float32)
    return Blind(median=np.median(actions, axis=0).astype(np.float32), sign=sign)


def validate(
    model: Answers, samples: Samples, constant: Blind, *, examples: int, batch: int, device: str, spec: ActionSpec
) -> dict[str, Any]:
    """`model` answers as it would be served, decoding included; padded steps do not count. Tokens, where it speaks
    them, are its own, each after those that it said before."""
    chosen = np.linspace(0, len(samples) - 1, min(examples, len(samples))).round().astype(np.int64)
    predicted, true, valid = [], [], []
    right, guessed = [], []
    for start in range(0, len(chosen), batch):
        rows = chosen[start : start + batch]
        arrays = samples.pipeline.still(samples.batch(rows))
        arrays["seed"] = rows  # each sample's noise is the same in every validation
        with torch.no_grad():
            tensors = {name: torch.from_numpy(array).to(device) for name, array in arrays.items()}
            answered = model.sample_actions(tensors).cpu()
        actions = (answered.float() if answered.is_floating_point() else answered).numpy()  # ids stay whole numbers
        if constant.token is not None:
            right.append(actions == arrays["actions"])
            guessed.append(constant.token == arrays["actions"])
        predicted.append(samples.pipeline.decode(actions, samples.proprio(rows)))
        true.append(samples.pipeline.decode(arrays["actions"], samples.proprio(rows)))
        valid.append(arrays["valid"])
    keep = np.concatenate(valid)
    found = compare(np.concatenate(predicted)[keep], np.concatenate(true)[keep], constant, gripper=spec.gripper_index)
    for name, hits in (("token_accuracy", right), ("token_accuracy_blind", guessed)):
        if hits:
            found[name] = _round(np.concatenate(hits)[keep].mean())
    return found


def compare(
    predicted: Float32[np.ndarray, "N A"], true: Float32[np.ndarray, "N A"], constant: Blind, *, gripper: int
) -> dict[str, Any]:
    """All figures of one validation. Per dimension of the arm, among the steps that move: which share of the answers
    had the right sign, the wrong one, or did not move."""
    arm = np.arange(true.shape[1]) != gripper
    error = np.abs(predicted - true)
    guess = np.abs(constant.median - true)
    return {
        "arm_l1": _round(error[:, arm].mean()),
        "arm_l1_blind": _round(guess[:, arm].mean()),
        "l1": [_round(value) for value in error.mean(0)],
        "l1_blind": [_round(value) for value in guess.mean(0)],
        "sign": [_signs(predicted[:, d], true[:, d], constant.sign[d]) for d in np.flatnonzero(arm)],
        "gripper": _round((np.sign(predicted[:, gripper]) == np.sign(true[:, gripper])).mean()),
        "gripper_blind": _round((constant.sign[gripper] == np.sign(true[:, gripper])).mean()),
        "steps": len(true),
    }


def _signs(
    predicted: Float32[np.ndarray, "N"], true: Float32[np.ndarray, "N"], commoner: float | np.floating[Any]
) -> dict[str, float | None]:
    moves: Bool[np.ndarray, "N"] = np.abs(true) > STILL
    if not moves.any():
        return {"moving": 0.0, "right": None, "wrong": None, "still": None, "right_blind": None}
    answer, truth = predicted[moves], np.sign(true[moves])
    still = np.abs(answer) <= STILL
    right = ~still & (np.sign(answer) == truth)
    return {
        "moving": _round(moves.mean()),
        "right": _round(right.mean()),
        "wrong": _round((~still & ~right).mean()),
        "still": _round(still.mean()),
        "right_blind": _round((truth == commoner).mean()),
    }


def _round(value: Any) -> float:
    return round(float(value), 5)
