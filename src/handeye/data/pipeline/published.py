"""The pipelines of published policy families on LIBERO, each constant with its source. They take our specs (upright
images, the robot's own actions) and do what the reference does to get from there to the model and back."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from handeye.conventions import action_tokens, libero
from handeye.conventions.image import Channels, Orientation
from handeye.conventions.normalize import EPSILON, Kind, Normalizer
from handeye.conventions.spec import ProprioSpec, Specs, require_same
from handeye.data.pipeline import steps
from handeye.data.pipeline.item import Augment, Encode
from handeye.data.pipeline.pipeline import Pipeline
from handeye.data.pipeline.vocabulary import Vocabulary
from handeye.data.statistics import Statistics, VectorStatistics
from handeye.errors import UserError

SIZE = 224
"""Height and width of every model here (openvla prismatic/extern/hf/configuration_prismatic.py; openpi
models/model.py)."""

DINO_MEAN, DINO_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
HALF: Channels = (0.5, 0.5, 0.5)
"""Mean and deviation of SigLIP, that is [-1, 1]."""

StoredAs = Literal["jpeg", "raw"]
"""What the training images have been through: RLDS files hold JPEG, HDF5 files pixels."""

OPENVLA_CROP = 0.9
"""Of the area (openvla prismatic/vla/datasets/datasets.py:122-136; experiments/robot/openvla_utils.py)."""

OPENVLA_AUGMENT: tuple[Augment, ...] = (
    steps.CropRandomly(OPENVLA_CROP, diagonal=True),
    steps.VaryBrightness(0.2),
    steps.VaryContrast((0.8, 1.2)),
    steps.VarySaturation((0.8, 1.2)),
    steps.VaryHue(0.05),
    steps.RoundImages(),
)
"""Parameters and order: openvla prismatic/vla/datasets/datasets.py:122-136, openvla-oft the same."""

OPENPI_EPSILON = 1e-6
"""openpi transforms.py:114-181."""

OPENPI_WIDTH = 32
"""Of state and actions (openpi models/pi0_config.py)."""


def openvla_pipeline(
    specs: Specs,
    statistics: Statistics,
    vocabulary: Vocabulary,
    *,
    prompt_length: int = 64,
    stored_as: StoredAs = "jpeg",
    augment: bool = True,
) -> Pipeline:
    """One camera, one action, written as seven tokens. `augment`: the policy was, or will be, trained with random
    crops and colours, so it acts on the middle crop."""
    _require_libero(specs, "OpenVLA's pipeline")
    # Its own inverse adds nothing to the range (modeling_prismatic.py:527-534); OFT's does.
    normalizer = _openvla_actions(specs, statistics, epsilon=0.0)
    return Pipeline(
        live_steps=_recorded(stored_as),
        encode_steps=(
            *_openvla_images(("agentview",)),
            steps.OpenVlaPrompt(vocabulary, prompt_length),
        ),
        augment_steps=OPENVLA_AUGMENT if augment else (),
        still_steps=(steps.CropImages(OPENVLA_CROP),) if augment else (),
        finish_steps=(FUSED,),
        decode_steps=(
            steps.DecodeTokens(action_tokens.VOCABULARY),
            steps.UnnormalizeActions(normalizer),
            steps.OpenVlaGripper(specs.action.gripper_index, binarize=True),
        ),
    )


def oft_pipeline(
    specs: Specs,
    statistics: Statistics,
    vocabulary: Vocabulary,
    *,
    cameras: tuple[str, ...] = libero.CAMERAS,
    prompt_length: int = 64,
    stored_as: StoredAs = "jpeg",
    augment: bool = True,
    tokens: bool = False,
) -> Pipeline:
    """OpenVLA-OFT: two cameras, proprioception, a chunk of numbers (or of `tokens`, its discrete form)."""
    _require_libero(specs, "OpenVLA-OFT's pipeline")
    proprio = _of_width(statistics.proprio, specs.proprio.width, "proprioception").normalizer("quantiles")
    decode = (
        steps.UnnormalizeActions(_openvla_actions(specs, statistics, epsilon=EPSILON)),
        steps.OpenVlaGripper(specs.action.gripper_index, binarize=True),
    )
    return Pipeline(
        live_steps=_recorded(stored_as),
        encode_steps=(
            *_openvla_images(cameras),
            steps.NormalizeProprio(proprio),
            steps.OpenVlaPrompt(vocabulary, prompt_length),
        ),
        augment_steps=OPENVLA_AUGMENT if augment else (),
        still_steps=(steps.CropImages(OPENVLA_CROP),) if augment else (),
        finish_steps=(FUSED,),
        decode_steps=(steps.DecodeTokens(action_tokens.VOCABULARY), *decode) if tokens else decode,
    )


def openpi_pipeline(
    specs: Specs,
    statistics: Statistics,
    vocabulary: Vocabulary,
    *,
    family: Literal["pi0", "pi05"] = "pi05",
    state_in_prompt: bool = False,
    augment: bool = True,
) -> Pipeline:
    """`pi05_libero` and `pi0_libero` of openpi (training/config.py:651-763). pi0: z-scores, actions relative to the
    state, 48 tokens. pi0.5: quantiles, actions as they are, 200 tokens; its LIBERO policy does not see the state at
    all, unless `state_in_prompt`. openpi acts on images that no JPEG has touched, though its training set was made
    from JPEG."""
    if state_in_prompt and family == "pi0":
        raise UserError("pi0 has no state in its prompt.", why="it has a token for the state", fix="use pi05")
    _require_libero(specs, "openpi's pipeline")
    act = specs.action
    kind: Kind = "mean_std" if family == "pi0" else "quantiles"
    relative = steps.AddState(tuple(index != act.gripper_index for index in range(act.width)))
    return Pipeline(
        encode_steps=(
            steps.SelectCameras(libero.CAMERAS),
            steps.TurnImages(Orientation.UPRIGHT, Orientation.TURNED_180),
            steps.FitImages(SIZE, SIZE, "bilinear"),
            steps.NormalizeProprio(
                openpi_normalizer(_of_width(statistics.proprio, specs.proprio.width, "state"), kind)
            ),
            steps.OpenpiPrompt(vocabulary, 48 if family == "pi0" else 200, state=state_in_prompt),
            steps.PadProprio(OPENPI_WIDTH),
        ),
        augment_steps=(
            steps.WarpImages(cameras=("agentview",), crop=0.95, degrees=5.0),
            steps.JitterValue(brightness=0.3, contrast=0.4, hue=0.1, share=0.5),
        )
        if augment
        else (),
        finish_steps=(steps.MarkCameras(absent=("right_wrist",)), steps.NormalizeImages((HALF,), (HALF,))),
        decode_steps=(
            steps.TrimActions(act.width, OPENPI_WIDTH),
            steps.UnnormalizeActions(openpi_normalizer(_of_width(statistics.action, act.width, "actions"), kind)),
            *((relative,) if family == "pi0" else ()),
        ),
    )


def openpi_normalizer(vector: VectorStatistics, kind: Kind) -> Normalizer:
    """Nothing clipped, nothing constant, every dimension: a value beside a constant one is divided by epsilon, and
    published weights expect it (openpi transforms.py:114-181)."""
    low, high = vector.ends(kind)
    return Normalizer(
        kind=kind,
        low=low,
        high=high,
        constant=(False,) * vector.width,
        mask=(True,) * vector.width,
        epsilon=OPENPI_EPSILON,
    )


FUSED = steps.NormalizeImages((DINO_MEAN, HALF), (DINO_STD, HALF))
"""Six channels, DINOv2's three first (openvla prismatic/extern/hf/processing_prismatic.py:70-145)."""


def _openvla_images(cameras: tuple[str, ...]) -> tuple[Encode, ...]:
    """openvla-oft experiments/robot/openvla_utils.py:520-543; in training dlimp's resize_image."""
    return (
        steps.SelectCameras(cameras),
        steps.TurnImages(Orientation.UPRIGHT, Orientation.TURNED_180),
        steps.ResizeImages(SIZE, SIZE, "tensorflow_lanczos3"),
    )


def _recorded(stored_as: StoredAs) -> tuple[Encode, ...]:
    """JPEG in the orientation in which RLDS files were written."""
    if stored_as == "raw":
        return ()
    return (
        steps.TurnImages(Orientation.UPRIGHT, Orientation.TURNED_180),
        steps.CompressImages(),
        steps.TurnImages(Orientation.TURNED_180, Orientation.UPRIGHT),
    )


def _openvla_actions(specs: Specs, statistics: Statistics, *, epsilon: float) -> Normalizer:
    """q01 and q99 to -1 and 1, the gripper left alone: by the statistics' own mask, else by LIBERO's (openvla-oft
    rlds/oxe/materialize.py:35-39)."""
    vector = _of_width(statistics.action, specs.action.width, "actions")
    mask = vector.mask or tuple(index != specs.action.gripper_index for index in range(vector.width))
    return replace(vector.normalizer("quantiles", mask=mask), epsilon=epsilon)


def _of_width(vector: VectorStatistics, width: int, what: str) -> VectorStatistics:
    if vector.width != width:
        raise UserError(
            f"The statistics of the {what} have {vector.width} dimensions, the robot has {width}.",
            why="OpenVLA's own files hold seven zeros where no proprioception was loaded"
            if vector.width == 7
            else "they belong to another robot",
            fix="use the statistics of this data set, or compute them with `handeye data stats`",
        )
    return vector


def _require_libero(specs: Specs, who: str) -> None:
    """The steps here start from LIBERO's conventions. How large images are is the protocol's business."""
    proprio: ProprioSpec = libero.PROPRIO
    expected = Specs(action=libero.ACTION, image=replace(specs.image, orientation=Orientation.UPRIGHT), proprio=proprio)
    require_same(specs, expected, here="the data", there=who)
