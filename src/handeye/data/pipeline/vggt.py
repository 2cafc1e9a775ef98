"""The pipelines of the two forms of `vggt_vla`: ours, and the reference's as its training data was."""

from __future__ import annotations

from dataclasses import replace

from handeye.conventions import libero
from handeye.conventions.gripper import Gripper
from handeye.conventions.image import Channels, Method, Orientation
from handeye.conventions.normalize import Kind, Normalizer
from handeye.conventions.spec import Specs, require_same
from handeye.data.pipeline import steps
from handeye.data.pipeline.item import Augment, Encode
from handeye.data.pipeline.pipeline import Pipeline
from handeye.data.pipeline.published import DINO_MEAN, DINO_STD
from handeye.data.pipeline.vocabulary import Vocabulary
from handeye.data.statistics import Statistics

NO_INSTRUCTION = "No instruction"
"""What AtlasVLA's loader says of every sample of a set that keeps its sentences elsewhere, as LeRobot's do
(vggt_vla/data/libero_hf_dataset.py: `sample.get('instruction', 'No instruction')`)."""

ZERO: Channels = (0.0, 0.0, 0.0)
ONE: Channels = (1.0, 1.0, 1.0)


def vggt_pipeline(
    specs: Specs,
    statistics: Statistics,
    vocabulary: Vocabulary | None,
    *,
    image_size: int = 224,
    prompt_length: int = 77,
    method: Method = "bicubic",
    proprio: Kind = "mean_std",
    action: Kind = "quantiles",
    augment: tuple[Augment, ...] = (),
) -> Pipeline:
    """Ours. Pictures upright and as they are (the model normalises them), the task's own sentence, the robot's state;
    actions back in the robot's units and limits, the gripper decided. `vocabulary` None: the sentence as bytes, for a
    language model that is trained from nothing."""
    act = specs.action
    symmetric = act.gripper in (Gripper.PM1_CLOSE, Gripper.PM1_OPEN)
    mask = tuple(index != act.gripper_index or not symmetric for index in range(act.width))
    return Pipeline(
        encode_steps=(
            steps.SelectCameras(specs.image.cameras),
            steps.ResizeImages(image_size, image_size, method),
            steps.NormalizeProprio(statistics.proprio.normalizer(proprio)),
            steps.EncodePrompt(prompt_length) if vocabulary is None else steps.QwenPrompt(vocabulary, prompt_length),
        ),
        augment_steps=augment,
        decode_steps=(
            steps.UnnormalizeActions(statistics.action.normalizer(action, mask=mask)),
            steps.ClipActions(act.low, act.high),
            steps.DecideGripper(act.gripper_index, act.gripper),
        ),
    )


def atlas_pipeline(
    specs: Specs,
    statistics: Statistics,
    vocabulary: Vocabulary,
    *,
    cameras: tuple[str, ...],
    image_size: int = 224,
    prompt_length: int = 77,
    pad: int = 151_643,
    turned: bool = True,
    imagenet: bool = False,
    constant: bool = False,
) -> Pipeline:
    """AtlasVLA as it was trained (vggt_vla/data at 8da9053): LeRobot's pictures, which are turned by 180 degrees,
    through torchvision's Resize; z-scores of actions; its evaluation clips to [-1, 1] and sends the gripper as it is.
    `turned` False: raw renderings, as its own evaluation showed it. `imagenet`: as trained before 02e6e01. `constant`:
    the one sentence that its loader made of every task."""
    require_same(specs, _libero(specs), here="the data", there="AtlasVLA's pipeline")
    shown = Orientation.TURNED_180 if turned else Orientation.OPENGL
    sentence: tuple[Encode, ...] = (steps.ReplacePrompt(NO_INSTRUCTION),) if constant else ()
    scale = ((DINO_MEAN,), (DINO_STD,)) if imagenet else ((ZERO,), (ONE,))
    return Pipeline(
        encode_steps=(
            steps.SelectCameras(cameras),
            steps.TurnImages(Orientation.UPRIGHT, shown),
            steps.ResizeImages(image_size, image_size, "bilinear"),
            *sentence,
            steps.QwenPrompt(vocabulary, prompt_length, too_long="cut", pad=pad),
        ),
        finish_steps=(steps.NormalizeImages(*scale),),
        decode_steps=(
            steps.UnnormalizeActions(_z_scores(statistics)),
            steps.ClipActions(specs.action.low, specs.action.high),
        ),
    )


def _z_scores(statistics: Statistics) -> Normalizer:
    """Every dimension, the gripper too, and nothing added to a deviation (vggt_vla/models/action_head.py)."""
    vector = statistics.action
    low, high = vector.ends("mean_std")
    nothing, everything = (False,) * vector.width, (True,) * vector.width
    return Normalizer(kind="mean_std", low=low, high=high, constant=nothing, mask=everything, epsilon=0.0)


def _libero(specs: Specs) -> Specs:
    """How large pictures are is the protocol's business."""
    upright = replace(specs.image, orientation=Orientation.UPRIGHT)
    return Specs(action=libero.ACTION, image=upright, proprio=libero.PROPRIO)
