"""What each family adds to a training configuration. Imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from handeye.conventions import libero
from handeye.conventions.image import Method
from handeye.conventions.normalize import Kind
from handeye.errors import UserError
from handeye.train.config import TrainConfig, require

Sizes = Literal["published", "small"]
StoredAs = Literal["jpeg", "raw"]


@dataclass(frozen=True, kw_only=True)
class ImageConfig:
    """How pictures reach `tiny`, and how training varies them."""

    image_size: int = 96
    """Height and width of the model's pictures, in pixels."""

    resize: Method = "area"

    shift: int = 1
    """Augmentation: each picture moves by up to this many pixels in each direction."""

    brightness: float = 0.1
    """Augmentation: up to this fraction of the full range is added."""

    contrast: float = 0.15
    """Augmentation: factor about the middle grey, 1 - contrast to 1 + contrast."""

    colour: float = 0.05
    """Augmentation: factor per colour channel. Small: sentences name colours."""


@dataclass(frozen=True, kw_only=True)
class TinyConfig(TrainConfig):
    """`tiny`, the family that learns in minutes on a CPU."""

    images: ImageConfig = field(default_factory=ImageConfig)

    model: dict[str, int | float] = field(default_factory=dict)
    """Fields of the family's Config that differ from its defaults: `--model keypoints 16 width 128`."""

    prompt_length: int = 128
    """Bytes of the longest sentence."""

    normalize_proprio: Kind = "mean_std"
    normalize_actions: Kind = "quantiles"

    @property
    def family(self) -> str:
        return "tiny"

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.prompt_length >= 1, "prompt_length", self.prompt_length, "at least 1")
        size = self.images.image_size
        require(16 <= size <= 1024 and size % 8 == 0, "image_size", size, "a multiple of 8 from 16 to 1024")
        if self.lora_rank:
            raise UserError("`tiny` takes no adapters.", why="it is small enough to train whole", fix="leave it out")


@dataclass(frozen=True, kw_only=True)
class PretrainedConfig(TrainConfig):
    """A family that is fine-tuned from published weights; or, with small sizes, trained from nothing."""

    sizes: Sizes = "published"
    """`published`: of the real models, which start from --start-from. `small`: the same code a thousand times smaller,
    for trying things out on a CPU; trained from nothing unless --start-from is given."""

    tokenizer: Path | None = None
    """The tokenizer's file. None: that of --start-from; `small` from nothing reads sentences byte by byte, with the ids
    that the published vocabulary has for bytes."""

    augment: bool = True
    """Vary pictures as the reference does. The policy then acts on what its training saw on average (OpenVLA: the
    middle crop)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.sizes == "published" and not self.begins_with_something:
            raise UserError(
                f"{self.family} has nothing to start from.",
                why="billions of weights are not learned from demonstrations alone",
                fix="give the published checkpoint with --start-from DIR, or --sizes small to try things out",
            )


@dataclass(frozen=True, kw_only=True)
class OpenvlaConfig(PretrainedConfig):
    """OpenVLA: one camera, one action, spoken as tokens."""

    stored_as: StoredAs = "jpeg"
    """What pictures go through before the policy sees them: RLDS files, which published policies learned from, hold
    JPEG."""

    @property
    def family(self) -> str:
        return "openvla"

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.chunk == 1, "chunk", self.chunk, "1, or OpenVLA-OFT (oft_...), which answers several actions")


@dataclass(frozen=True, kw_only=True)
class OftConfig(PretrainedConfig):
    """OpenVLA-OFT: cameras and the arm's state in, a chunk of actions out."""

    head: Literal["l1", "diffusion", "tokens"] = "l1"

    film: bool = False
    """The sentence steers the vision towers (OFT+)."""

    film_averages_padding: bool = False
    """In training, <PAD> counts in the sentence's mean, as upstream; a sample's loss then depends on its neighbours."""

    proprio: bool = True
    """The arm's state is looked at."""

    cameras: tuple[str, ...] = libero.CAMERAS
    stored_as: StoredAs = "jpeg"
    """What pictures go through before the policy sees them: RLDS files, which published policies learned from, hold
    JPEG."""

    @property
    def family(self) -> str:
        return "openvla_oft"


@dataclass(frozen=True, kw_only=True)
class OpenpiConfig(PretrainedConfig):
    """pi0 and pi0.5."""

    kind: Literal["pi0", "pi05"] = "pi05"

    state_in_prompt: bool = False
    """pi0.5's own way; openpi's LIBERO checkpoints are trained without any state (discrete_state_input=False)."""

    train_only: Literal["all", "expert"] = "all"
    """`expert`: cameras and prompt are read with frozen weights, only the action expert and the projections learn."""

    @property
    def family(self) -> str:
        return "pi05"


@dataclass(frozen=True, kw_only=True)
class VggtConfig(PretrainedConfig):
    """A policy on VGGT's geometry and Qwen's language, in our form (docs/models/vggt_vla.md); or, from a checkpoint of
    AtlasVLA, in its."""

    vggt: Path | None = None
    """facebook/VGGT-1B's weights (model.safetensors or model.pt), to begin with; --start-from takes the place of both
    halves that a preset names."""

    qwen: Path | None = None
    """The folder of Qwen3-0.6B (or Qwen2-0.5B, named so by its own config.json): weights and tokenizer."""

    freeze_language: bool = True
    """The language model stays as it is, as in AtlasVLA. Otherwise all of it is trained, also beside adapters, which
    VGGT alone gets; AtlasVLA's factor on its learning rate is 0.05."""

    cameras: tuple[str, ...] = libero.CAMERAS
    """Those of --start-from, where one is given; others are refused, or with --allow-partial taken."""

    @property
    def family(self) -> str:
        return "vggt_vla"

    def __post_init__(self) -> None:
        if self.start_from is not None and (self.vggt is not None or self.qwen is not None):
            raise UserError("There are two things to start from.", fix="give --start-from, or --vggt and --qwen")
        if (self.vggt is None) != (self.qwen is None):
            raise UserError(
                "A policy on VGGT needs both halves.",
                why=f"--{'qwen' if self.qwen is None else 'vggt'} is missing",
                fix="give --vggt FILE and --qwen DIR",
            )
        super().__post_init__()

    @property
    def begins_with_something(self) -> bool:
        return super().begins_with_something or self.vggt is not None
