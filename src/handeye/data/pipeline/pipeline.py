"""One object holds the way in and the way out of a model. It is built once, saved in the checkpoint as JSON, and used
unchanged by training, evaluation and serving, so that the three cannot drift apart.

Its sides, and who passes through them:

                 live   encode   augment   still   finish        decode
    training              x         x                 x       (targets: backwards)
    validation            x                   x       x           x
    acting         x      x                   x       x           x

`live` is what recorded images have been through before they were recorded (JPEG, in RLDS files) and a camera's have
not. `still` stands for a random augmentation where nothing may be random: a crop of the middle for a crop anywhere. A
pipeline without augmentations trains through `still` as well. `finish` makes numbers of pixels, once nothing varies
them any more.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Float32, Num, UInt8

from handeye.conventions.gripper import Gripper
from handeye.conventions.image import Method
from handeye.conventions.normalize import Kind
from handeye.conventions.plain import from_plain, to_plain
from handeye.conventions.spec import Specs
from handeye.data.pipeline import steps
from handeye.data.pipeline.item import IMAGE, Augment, Decode, Encode, Item, Rngs
from handeye.data.pipeline.vocabulary import Vocabulary
from handeye.data.statistics import Statistics
from handeye.errors import UserError, unknown
from handeye.types import Episode, Observation

SIDES = {
    "live": steps.ENCODE,
    "encode": steps.ENCODE,
    "augment": steps.AUGMENT,
    "still": steps.ENCODE,
    "finish": steps.ENCODE,
    "decode": steps.DECODE,
}
"""Side -> the steps that it may have."""


@dataclass(frozen=True)
class Pipeline:
    """Steps are applied in order."""

    encode_steps: tuple[Encode, ...]
    """Observation -> model input, as training keeps it: whatever is the same every time."""

    decode_steps: tuple[Decode, ...]
    """Model output -> actions for the robot."""

    augment_steps: tuple[Augment, ...] = ()
    """On training batches only, after encoding."""

    live_steps: tuple[Encode, ...] = ()
    """On live observations only, before encoding."""

    still_steps: tuple[Encode, ...] = ()
    """Instead of augmenting, after encoding."""

    finish_steps: tuple[Encode, ...] = ()
    """Last, on everything: pixels -> the numbers that the model takes."""

    def encode(self, observation: Observation) -> dict[str, np.ndarray]:
        """A live observation, all the way. Arrays without a batch axis: image.<camera> (H, W, C), proprio float32 (S,),
        prompt int64 (L,), and masks where the model has them."""
        item = self._start(observation.images, observation.proprio, observation.prompt)
        for step in (*self.live_steps, *self.encode_steps, *self.still_steps, *self.finish_steps):
            item = step(item)
        return _arrays(item)

    def encode_episode(self, episode: Episode) -> dict[str, np.ndarray]:
        """Every step of a demonstration at once: see `encode_frames`."""
        return self.encode_frames(episode.images, episode.proprio, episode.prompt)

    def encode_frames(
        self, images: Mapping[str, UInt8[np.ndarray, "n H W 3"]], proprio: Float[np.ndarray, "n S"], prompt: str
    ) -> dict[str, np.ndarray]:
        """Any steps of a demonstration, as far as they are the same every time; `augment` or `still` goes on from
        there. Everything has a leading axis but the prompt (L,) and its mask, unless the state is part of it: then
        (n, L)."""
        item = self._start(images, proprio, prompt)
        for step in self.encode_steps:
            item = step(item)
        return _arrays(item)

    def augment(self, batch: Item, rngs: Rngs) -> dict[str, Any]:
        """An encoded training batch, varied, all the way. One generator per sample. Keys that are no input (actions)
        pass."""
        for vary in self.augment_steps:
            batch = vary(batch, rngs)
        return self._finished(batch, () if self.augment_steps else self.still_steps)

    def still(self, batch: Item) -> dict[str, Any]:
        """An encoded batch, all the way without varying it: what validation and every other look at demonstrations
        use."""
        return self._finished(batch, self.still_steps)

    def decode(
        self, actions: Num[np.ndarray, "*n A"], proprio: Float[np.ndarray, "*m S"] | None = None
    ) -> Float32[np.ndarray, "*n B"]:
        """What the model answered (*n, T, A), for the robot. `proprio` is the observation's, unchanged (*n, S); only
        pipelines with actions relative to the state need it."""
        for step in self.decode_steps:
            actions = step(actions, proprio)
        return actions.astype(np.float32)

    def targets(
        self, actions: Float[np.ndarray, "*n A"], proprio: Float[np.ndarray, "*m S"] | None = None
    ) -> Num[np.ndarray, "*n B"]:
        """What the model should have answered for these actions of a demonstration: `decode` backwards. Float32, or
        int64 where the model answers with tokens. `proprio` as in `decode`: that of a chunk's first step."""
        for step in reversed(self.decode_steps):
            actions = step.target(actions, proprio)
        return actions if np.issubdtype(actions.dtype, np.integer) else actions.astype(np.float32)

    def vocabularies(self) -> tuple[Vocabulary, ...]:
        """The files that this pipeline needs beside itself, each once."""
        found = [
            value
            for side in SIDES
            for step in getattr(self, f"{side}_steps")
            for field in fields(step)
            if isinstance(value := getattr(step, field.name), Vocabulary)
        ]
        return tuple(dict.fromkeys(found))

    def located(self, folder: Path) -> Pipeline:
        """The same pipeline, with its files in this folder. They are read, and their digests compared, when needed."""
        sides = {
            f"{side}_steps": tuple(_located(step, folder) for step in getattr(self, f"{side}_steps")) for side in SIDES
        }
        return replace(self, **sides)

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
        if bad := [side for side in SIDES if not isinstance(value[side], list)]:
            raise UserError(
                f"{what} cannot be read.",
                why=f"its side '{bad[0]}' is not a list of steps",
                fix="the file was edited, damaged or made by another version: make it again",
            )
        sides = {f"{s}_steps": tuple(_step_from_json(s, step, what) for step in value[s]) for s in SIDES}
        return Pipeline(**sides)

    def _start(self, images: Mapping[str, np.ndarray], proprio: np.ndarray, prompt: str) -> Item:
        """Proprioception in single precision, as a robot reports it, also where a file knows more digits."""
        vector = np.asarray(proprio, np.float32)
        return {IMAGE + name: value for name, value in images.items()} | {"proprio": vector, "prompt": prompt}

    def _finished(self, batch: Item, before: tuple[Encode, ...]) -> dict[str, Any]:
        for step in (*before, *self.finish_steps):
            batch = step(batch)
        return dict(batch)


def _arrays(item: Item) -> dict[str, np.ndarray]:
    """Vectors were computed in double precision; models take single."""
    if left := [name for name, value in item.items() if not isinstance(value, np.ndarray)]:
        raise UserError(
            f"The pipeline leaves '{left[0]}' as a {type(item[left[0]]).__name__}.",
            why="a model takes arrays",
            fix="add the step that encodes it: EncodePrompt for a prompt",
        )
    return {name: value.astype(np.float32) if value.dtype == np.float64 else value for name, value in item.items()}


def _located(step: Any, folder: Path) -> Any:
    moved = {
        field.name: value.located(folder)
        for field in fields(step)
        if isinstance(value := getattr(step, field.name), Vocabulary)
    }
    return replace(step, **moved) if moved else step


def _step_to_json(step: object) -> dict[str, Any]:
    return {"step": type(step).__name__, **to_plain(step)}


def _step_from_json(side: str, value: Any, what: str) -> Any:
    kinds = {kind.__name__: kind for kind in SIDES[side]}
    name = value.get("step") if isinstance(value, Mapping) else value
    if not isinstance(name, str) or name not in kinds:
        raise unknown(f"{side} step in {what}", name, kinds, fix="use a version of handeye that has this step")
    given = {key: part for key, part in value.items() if key != "step"}
    return from_plain(kinds[name], given, what=f"{what}: step {name}")


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
