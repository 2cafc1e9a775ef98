"""One object holds the way in and the way out of a model. It is built once, saved in the checkpoint as JSON, and used
unchanged by training, evaluation and serving, so that the three cannot drift apart."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Float32

from handeye.conventions.gripper import Gripper
from handeye.conventions.image import Method
from handeye.conventions.normalize import Kind
from handeye.conventions.plain import from_plain, to_plain
from handeye.conventions.spec import Specs
from handeye.data.pipeline import steps
from handeye.data.pipeline.steps import IMAGE, Augment, Decode, Encode, Item
from handeye.data.statistics import Statistics
from handeye.errors import UserError, unknown
from handeye.types import Episode, Observation

SIDES = {"encode": steps.ENCODE, "decode": steps.DECODE, "augment": steps.AUGMENT}


@dataclass(frozen=True)
class Pipeline:
    """Steps are applied in order."""

    encode_steps: tuple[Encode, ...]
    """Observation -> model input."""

    decode_steps: tuple[Decode, ...]
    """Model output -> actions for the robot."""

    augment_steps: tuple[Augment, ...] = ()
    """On training batches only, after encoding."""

    def encode(self, observation: Observation) -> dict[str, np.ndarray]:
        """Arrays without a batch axis: image.<camera> uint8 (H, W, 3), proprio float32 (S,), prompt int64 (L,)."""
        return self._encode(observation.images, observation.proprio, observation.prompt)

    def encode_episode(self, episode: Episode) -> dict[str, np.ndarray]:
        """Every step of a demonstration at once, by the same code: a leading axis, but a single prompt."""
        return self._encode(episode.images, np.asarray(episode.proprio, np.float32), episode.prompt)

    def decode(self, actions: Float32[np.ndarray, "*n A"]) -> Float32[np.ndarray, "*n A"]:
        for step in self.decode_steps:
            actions = step(actions)
        return actions

    def targets(self, actions: Float[np.ndarray, "*n A"]) -> Float32[np.ndarray, "*n A"]:
        """What the model should have answered for these actions of a demonstration: `decode` backwards."""
        actions = np.asarray(actions, np.float32)
        for step in reversed(self.decode_steps):
            actions = step.target(actions)
        return actions

    def augment(self, batch: Item, rng: np.random.Generator) -> dict[str, Any]:
        for step in self.augment_steps:
            batch = step(batch, rng)
        return dict(batch)

    def _encode(self, images: Mapping[str, np.ndarray], proprio: np.ndarray, prompt: str) -> dict[str, np.ndarray]:
        item: Item = {IMAGE + name: value for name, value in images.items()} | {"proprio": proprio, "prompt": prompt}
        for step in self.encode_steps:
            item = step(item)
        if left := [name for name, value in item.items() if not isinstance(value, np.ndarray)]:
            raise UserError(
                f"The pipeline leaves '{left[0]}' as a {type(item[left[0]]).__name__}.",
                why="a model takes arrays",
                fix="add the step that encodes it: EncodePrompt for a prompt",
            )
        return dict(item)

    def to_json(self) -> dict[str, list[dict[str, Any]]]:
        return {side: [_step_to_json(step) for step in getattr(self, f"{side}_steps")] for side in SIDES}

    @staticmethod
    def from_json(value: object, *, what: str = "the pipeline") -> Pipeline:
        if not isinstance(value, Mapping) or set(value) != set(SIDES):
            found = ", ".join(sorted(map(str, value))) if isinstance(value, Mapping) else repr(value)
            raise UserError(
                f"{what} cannot be read.",
                why=f"it should have {', '.join(SIDES)}; found {found}",
                fix="the file was edited, damaged or made by another version: make it again",
            )
        return Pipeline(*(tuple(_step_from_json(side, step, what) for step in value[side]) for side in SIDES))


def _step_to_json(step: object) -> dict[str, Any]:
    return {"step": type(step).__name__, **to_plain(step)}


def _step_from_json(side: str, value: Any, what: str) -> Any:
    kinds = {kind.__name__: kind for kind in SIDES[side]}
    name = value.get("step") if isinstance(value, Mapping) else value
    if name not in kinds:
        raise unknown(f"{side} step in {what}", name, kinds, fix="use a version of handeye that has this step")
    fields = {key: part for key, part in value.items() if key != "step"}
    return from_plain(kinds[name], fields, what=f"{what}: step {name}")


def standard_pipeline(
    specs: Specs,
    statistics: Statistics,
    *,
    image_size: int,
    prompt_length: int,
    method: Method = "area",
    proprio: Kind = "mean_std",
    action: Kind = "quantiles",
    augment: tuple[Augment, ...] = (),
) -> Pipeline:
    """What `tiny` uses: square images, normalised proprioception, bytes of the sentence; actions back in the units of
    the demonstrations, within their limits, the gripper decided. The gripper is not normalised when it is -1 or +1."""
    act, width = specs.action, specs.action.width
    symmetric = act.gripper in (Gripper.PM1_CLOSE, Gripper.PM1_OPEN)
    mask = tuple(index != act.gripper_index or not symmetric for index in range(width))
    return Pipeline(
        encode_steps=(
            steps.SelectCameras(specs.image.cameras),
            steps.ResizeImages(image_size, image_size, method),
            steps.NormalizeProprio(statistics.proprio.normalizer(proprio)),
            steps.EncodePrompt(prompt_length),
        ),
        decode_steps=(
            steps.UnnormalizeActions(statistics.action.normalizer(action, mask=mask)),
            steps.ClipActions(act.low, act.high),
            steps.DecideGripper(act.gripper_index, act.gripper),
        ),
        augment_steps=augment,
    )
