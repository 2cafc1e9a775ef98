"""Steps for proprioception (encode) and actions (decode, and back to the model's targets)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from handeye.conventions import action_tokens, gripper, proprio, rotation
from handeye.conventions.normalize import Normalizer
from handeye.data.pipeline.item import Item, within
from handeye.errors import UserError

MOST_WIDTH = 4096
"""Of a vector."""

# ---- encode ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ConvertProprioRotation:
    """Write the orientation inside the proprioception in another three-number convention."""

    source: rotation.Rotation
    target: rotation.Rotation

    def __call__(self, item: Item) -> Item:
        changed = np.array(item["proprio"])
        part = changed[..., proprio.ORIENTATION]
        changed[..., proprio.ORIENTATION] = rotation.convert(part, source=self.source, target=self.target)
        return {**item, "proprio": changed}


@dataclass(frozen=True)
class NormalizeProprio:
    normalizer: Normalizer

    def __call__(self, item: Item) -> Item:
        return {**item, "proprio": self.normalizer.forward(item["proprio"])}


@dataclass(frozen=True)
class PadProprio:
    """Zeros up to `width`, for a model that takes wider vectors than the robot has."""

    width: int

    def __post_init__(self) -> None:
        within(self.width, 1, MOST_WIDTH, "A width")

    def __call__(self, item: Item) -> Item:
        return {**item, "proprio": _padded(item["proprio"], self.width)}


# ---- decode ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class DecodeTokens:
    """Ids of OpenVLA's action words to numbers in [-1, 1], and back."""

    vocabulary: int

    def __post_init__(self) -> None:
        within(self.vocabulary, action_tokens.EDGES, 2**24, "A vocabulary")

    def __call__(self, actions: np.ndarray, proprio: np.ndarray | None) -> np.ndarray:
        if not np.issubdtype(actions.dtype, np.integer):
            raise TypeError(f"action ids are integers, not {actions.dtype}")
        return action_tokens.decode(actions.astype(np.int64), vocabulary=self.vocabulary)

    def target(self, actions: np.ndarray, proprio: np.ndarray | None) -> np.ndarray:
        return action_tokens.encode(actions, vocabulary=self.vocabulary)


@dataclass(frozen=True)
class TrimActions:
    """The first `width` of the model's `model_width` numbers; targets are padded with zeros."""

    width: int
    model_width: int

    def __post_init__(self) -> None:
        within(self.model_width, 1, MOST_WIDTH, "A width")
        within(self.width, 1, self.model_width, "A width")

    def __call__(self, actions: np.ndarray, proprio: np.ndarray | None) -> np.ndarray:
        _require_width(actions, self.model_width, "The model answers")
        return actions[..., : self.width]

    def target(self, actions: np.ndarray, proprio: np.ndarray | None) -> np.ndarray:
        _require_width(actions, self.width, "The demonstration has")
        return _padded(actions, self.model_width)


@dataclass(frozen=True)
class UnnormalizeActions:
    normalizer: Normalizer

    def __call__(self, actions: np.ndarray, proprio: np.ndarray | None) -> np.ndarray:
        return self.normalizer.inverse(actions)

    def target(self, actions: np.ndarray, proprio: np.ndarray | None) -> np.ndarray:
        return self.normalizer.forward(actions)


@dataclass(frozen=True)
class AddState:
    """The model answers relative to the state in which it was asked: where `mask` is True, add that state's number (and
    subtract it for targets). A whole chunk is relative to its first state. openpi does this for pi0 on LIBERO, though
    LIBERO's actions are steps already (openpi training/config.py:336-343)."""

    mask: tuple[bool, ...]

    def __call__(self, actions: np.ndarray, proprio: np.ndarray | None) -> np.ndarray:
        return actions + self._state(actions, proprio)

    def target(self, actions: np.ndarray, proprio: np.ndarray | None) -> np.ndarray:
        return actions - self._state(actions, proprio)

    def _state(self, actions: np.ndarray, proprio: np.ndarray | None) -> np.ndarray:
        if proprio is None:
            raise UserError(
                "These actions are relative to the robot's state, which is not given.",
                why="the pipeline has the step AddState",
                fix="pass the observation's proprioception along with the actions",
            )
        width = len(self.mask)
        _require_width(actions, width, "The action has")
        state = np.where(self.mask, np.asarray(proprio, np.float64)[..., :width], 0.0)
        return np.expand_dims(state, -2) if actions.ndim > state.ndim else state


@dataclass(frozen=True)
class ScaleActions:
    """Multiply each dimension by `factors` towards the robot: another controller's units."""

    factors: tuple[float, ...]

    def __call__(self, actions: np.ndarray, proprio: np.ndarray | None) -> np.ndarray:
        return actions * np.array(self.factors, actions.dtype)

    def target(self, actions: np.ndarray, proprio: np.ndarray | None) -> np.ndarray:
        return actions / np.array(self.factors, actions.dtype)


@dataclass(frozen=True)
class ClipActions:
    """To what the controller accepts. Demonstrated actions already lie there."""

    low: float
    high: float

    def __call__(self, actions: np.ndarray, proprio: np.ndarray | None) -> np.ndarray:
        return np.clip(actions, self.low, self.high)

    def target(self, actions: np.ndarray, proprio: np.ndarray | None) -> np.ndarray:
        return actions


@dataclass(frozen=True)
class DecideGripper:
    """Fully open or fully closed, whichever is nearer."""

    index: int
    convention: gripper.Gripper

    def __call__(self, actions: np.ndarray, proprio: np.ndarray | None) -> np.ndarray:
        return _with(actions, self.index, gripper.decide(actions[..., self.index], self.convention))

    def target(self, actions: np.ndarray, proprio: np.ndarray | None) -> np.ndarray:
        return actions


@dataclass(frozen=True)
class ConvertGripper:
    """From the model's gripper convention to the robot's."""

    index: int
    model: gripper.Gripper
    robot: gripper.Gripper

    def __call__(self, actions: np.ndarray, proprio: np.ndarray | None) -> np.ndarray:
        value = gripper.convert(actions[..., self.index], source=self.model, target=self.robot)
        return _with(actions, self.index, value)

    def target(self, actions: np.ndarray, proprio: np.ndarray | None) -> np.ndarray:
        value = gripper.convert(actions[..., self.index], source=self.robot, target=self.model)
        return _with(actions, self.index, value)


@dataclass(frozen=True)
class OpenVlaGripper:
    """OpenVLA's gripper is 1 open, 0 closed; LIBERO's -1 open, +1 closed. Targets are 1 - clip(command, 0, 1), so a
    command between the two counts as open until it is above 0 (openvla-oft rlds/oxe/transforms.py:827-841). Answers
    above one half open, below it close; exactly one half is 0, neither (openvla robot_utils.py, normalize and
    invert)."""

    index: int
    binarize: bool
    """False: the number between the ends is kept."""

    def __call__(self, actions: np.ndarray, proprio: np.ndarray | None) -> np.ndarray:
        opening = 2 * actions[..., self.index] - 1
        return _with(actions, self.index, -(np.sign(opening) if self.binarize else opening))

    def target(self, actions: np.ndarray, proprio: np.ndarray | None) -> np.ndarray:
        return _with(actions, self.index, 1 - np.clip(actions[..., self.index], 0, 1))


def _with(actions: np.ndarray, index: int, value: np.ndarray) -> np.ndarray:
    changed = actions.copy()
    changed[..., index] = value
    return changed


def _padded(vector: np.ndarray, width: int) -> np.ndarray:
    if vector.shape[-1] > width:
        raise UserError(
            f"A vector of width {vector.shape[-1]} does not fit into {width}.",
            fix="use a model that takes wider vectors",
        )
    return np.pad(vector, [(0, 0)] * (vector.ndim - 1) + [(0, width - vector.shape[-1])])


def _require_width(actions: np.ndarray, width: int, who: str) -> None:
    if actions.shape[-1] != width:
        raise UserError(
            f"{who} {actions.shape[-1]} numbers per action.",
            why=f"the pipeline was made for {width}",
            fix="use the pipeline that belongs to this model and robot",
        )
