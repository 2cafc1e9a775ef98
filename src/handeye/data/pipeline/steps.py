"""Every step that a pipeline may declare, by its name. What is not here is refused."""

from __future__ import annotations

from handeye.data.pipeline.augment import JitterColours, ShiftImages
from handeye.data.pipeline.augment_openpi import JitterValue, WarpImages
from handeye.data.pipeline.augment_openvla import (
    CropRandomly,
    RoundImages,
    VaryBrightness,
    VaryContrast,
    VaryHue,
    VarySaturation,
)
from handeye.data.pipeline.images import (
    CompressImages,
    CropImages,
    FitImages,
    MarkCameras,
    NormalizeImages,
    ResizeImages,
    SelectCameras,
    TurnImages,
)
from handeye.data.pipeline.item import IMAGE, IMAGE_MASK, Augment, Decode, Encode, Item, Rngs
from handeye.data.pipeline.prompts import EncodePrompt, OpenpiPrompt, OpenVlaPrompt, QwenPrompt, ReplacePrompt
from handeye.data.pipeline.vectors import (
    AddState,
    ClipActions,
    ConvertGripper,
    ConvertProprioRotation,
    DecideGripper,
    DecodeTokens,
    NormalizeProprio,
    OpenVlaGripper,
    PadProprio,
    ScaleActions,
    TrimActions,
    UnnormalizeActions,
)

ENCODE = (
    SelectCameras, TurnImages, CompressImages, ResizeImages, FitImages, CropImages, NormalizeImages, MarkCameras,
    ConvertProprioRotation, NormalizeProprio, PadProprio,
    ReplacePrompt, EncodePrompt, OpenVlaPrompt, OpenpiPrompt, QwenPrompt,
)  # fmt: skip
DECODE = (
    DecodeTokens, TrimActions, UnnormalizeActions, AddState, ScaleActions, ClipActions,
    DecideGripper, ConvertGripper, OpenVlaGripper,
)  # fmt: skip
AUGMENT = (
    ShiftImages, JitterColours,
    CropRandomly, VaryBrightness, VaryContrast, VarySaturation, VaryHue, RoundImages,
    WarpImages, JitterValue,
)  # fmt: skip

__all__ = [
    "AUGMENT", "DECODE", "ENCODE", "IMAGE", "IMAGE_MASK", "AddState", "Augment", "ClipActions", "CompressImages",
    "ConvertGripper", "ConvertProprioRotation", "CropImages", "CropRandomly", "DecideGripper", "Decode", "DecodeTokens",
    "Encode", "EncodePrompt", "FitImages", "Item", "JitterColours", "JitterValue", "MarkCameras", "NormalizeImages",
    "NormalizeProprio", "OpenVlaGripper", "OpenVlaPrompt", "OpenpiPrompt", "PadProprio", "QwenPrompt", "ReplacePrompt",
    "ResizeImages", "Rngs", "RoundImages", "ScaleActions", "SelectCameras", "ShiftImages", "TrimActions", "TurnImages",
    "UnnormalizeActions", "VaryBrightness", "VaryContrast", "VaryHue", "VarySaturation", "WarpImages",
]  # fmt: skip
