"""Complete training configurations by name, one for each run we stand behind. Imports nothing heavy.

`*_libero_*` repeat published recipes, each constant with its source. `*_small_*` are the same code a thousand times
smaller, trained from nothing: they show that everything fits together, and say nothing about the published models.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

from handeye.train.config import OptimizerConfig, TrainConfig
from handeye.train.families.config import (
    ImageConfig,
    OftConfig,
    OpenpiConfig,
    OpenvlaConfig,
    TinyConfig,
    VggtConfig,
)

SUITES = ("libero_spatial", "libero_object", "libero_goal", "libero_10")

OPENVLA_7B = Path("checkpoints/openvla-7b")
PI0_BASE, PI05_BASE = Path("checkpoints/pi0_base"), Path("checkpoints/pi05_base")
PI05_XVR = Path("checkpoints/pi05_xvr")
"""Where presets look for what they start from; --start-from names another place."""


@dataclass(frozen=True)
class Preset:
    about: str
    make: Callable[[], TrainConfig]


# ---- tiny ------------------------------------------------------------------------------------------------------------


def tiny_tabletop() -> TinyConfig:
    return TinyConfig(
        data=Path("demos/tabletop"),
        out=Path("runs/tiny_tabletop"),
        steps=2500,
        images=ImageConfig(image_size=64),  # a cube is still four pixels wide, at half the time of 96
        optimizer=OptimizerConfig(learning_rate=3e-3),
    )


def tiny_libero(suite: str) -> TinyConfig:
    return TinyConfig(
        data=Path("demos") / suite,
        out=Path(f"runs/tiny_{suite}"),
        steps=15_000,
        optimizer=OptimizerConfig(learning_rate=2e-3, warmup=300),
    )


# ---- OpenVLA and OpenVLA-OFT -----------------------------------------------------------------------------------------

OPENVLA_STEPS = {"libero_spatial": 50_000, "libero_object": 50_000, "libero_goal": 60_000, "libero_10": 80_000}
"""openvla issue 112, quoting the model cards."""

OFT_STEPS = {"libero_spatial": 150_000, "libero_object": 150_000, "libero_goal": 50_000, "libero_10": 150_000}
"""The published checkpoints' steps (openvla-oft experiments/robot/openvla_utils.py:415-421)."""

ADAMW = OptimizerConfig(
    learning_rate=5e-4, warmup=0, schedule="constant", betas=(0.9, 0.999), weight_decay=0.01, clip=None, ema=0.0
)
"""torch's own AdamW at a constant rate, nothing clipped, nothing averaged (openvla vla-scripts/finetune.py:187-189)."""


def openvla_libero(suite: str) -> OpenvlaConfig:
    return OpenvlaConfig(
        data=Path("data") / f"{suite}_no_noops",
        out=Path(f"runs/openvla_{suite}"),
        start_from=OPENVLA_7B,
        steps=OPENVLA_STEPS[suite],
        batch=128,  # 8 GPUs of 16 (openvla issue 112)
        chunk=1,
        optimizer=ADAMW,
        lora_rank=32,  # vla-scripts/finetune.py:100
        precision="bf16",
        checkpointing=True,
        held_out=0.05,  # rlds/dataset.py:234-237
        save_every=5000,
        validate_every=5000,
        device="cuda",
    )


def oft_libero(suite: str, head: Literal["l1", "diffusion"] = "l1", film: bool = False) -> OftConfig:
    kind = "_film" if film else "_diffusion" if head == "diffusion" else ""
    return OftConfig(
        data=Path("data") / f"{suite}_no_noops",
        out=Path(f"runs/oft{kind}_{suite}"),
        start_from=OPENVLA_7B,
        steps=OFT_STEPS[suite],
        batch=64,  # 8 GPUs of 8 (openvla-oft LIBERO.md)
        chunk=8,
        chunk_ends="drop",  # rlds/traj_transforms.py:25-55
        head=head,
        film=film,
        # vla-scripts/finetune.py:68-120; the rate falls to a tenth after 100,000 steps
        optimizer=replace(ADAMW, schedule="step", decay_at=100_000, end_fraction=0.1),
        lora_rank=32,
        precision="bf16",
        checkpointing=True,
        held_out=0.02,
        save_every=10_000,
        validate_every=10_000,
        device="cuda",
    )


SMALL = OptimizerConfig(learning_rate=1e-3, warmup=200, ema=0.998)


def openvla_small() -> OpenvlaConfig:
    return OpenvlaConfig(
        data=Path("demos/tabletop"),
        out=Path("runs/openvla_small"),
        sizes="small",
        steps=4000,
        batch=32,
        chunk=1,
        stored_as="raw",
        optimizer=SMALL,
    )


def oft_small() -> OftConfig:
    return OftConfig(
        data=Path("demos/tabletop"),
        out=Path("runs/oft_small"),
        sizes="small",
        steps=4000,
        batch=32,
        stored_as="raw",
        optimizer=SMALL,
    )


# ---- pi0 and pi0.5 ---------------------------------------------------------------------------------------------------


def pi0_libero() -> OpenpiConfig:
    return OpenpiConfig(
        kind="pi0",
        data=Path("data/libero"),
        out=Path("runs/pi0_libero"),
        start_from=PI0_BASE,
        # openpi training/config.py, pi0_libero and the defaults of TrainConfig and CosineDecaySchedule
        steps=30_000,
        batch=32,
        chunk=50,
        chunk_ends="repeat",
        optimizer=OptimizerConfig(
            learning_rate=2.5e-5,
            warmup=1000,
            schedule="openpi",
            end_fraction=0.1,
            betas=(0.9, 0.95),
            weight_decay=1e-10,
            clip=1.0,
            ema=0.99,
            ema_grows=False,
        ),
        precision="bf16",
        checkpointing=True,
        held_out=0.01,
        save_every=1000,
        validate_every=1000,
        device="cuda",
        seed=42,
    )


def pi05_libero() -> OpenpiConfig:
    return replace(
        pi0_libero(),
        kind="pi05",
        out=Path("runs/pi05_libero"),
        start_from=PI05_BASE,
        batch=256,
        chunk=10,
        # Warm-up of 10,000 steps to 5e-5, where it stays: peak and end are equal (openpi training/config.py:743-763).
        optimizer=replace(pi0_libero().optimizer, learning_rate=5e-5, warmup=10_000, end_fraction=1.0, ema=0.999),
    )


def pi05_xvr_libero() -> OpenpiConfig:
    return replace(pi05_libero(), out=Path("runs/pi05_xvr_libero"), start_from=PI05_XVR)


def pi0_libero_lora() -> OpenpiConfig:
    return replace(_low_memory(pi0_libero()), out=Path("runs/pi0_libero_lora"))


def pi05_libero_lora() -> OpenpiConfig:
    return replace(_low_memory(pi05_libero()), out=Path("runs/pi05_libero_lora"))


def pi05_xvr_libero_lora() -> OpenpiConfig:
    return replace(_low_memory(pi05_xvr_libero()), out=Path("runs/pi05_xvr_libero_lora"))


def _low_memory(config: OpenpiConfig) -> OpenpiConfig:
    """Rank 16 in PaliGemma, 32 in the action expert, alpha / rank 1 (openpi models/gemma.py, gemma_2b_lora and
    gemma_300m_lora), no average (training/config.py, pi0_libero_low_mem_finetune)."""
    return replace(
        config,
        batch=32,
        lora_rank=16,
        lora_alpha=16,
        lora_rank_of={"expert.": 32},
        optimizer=replace(config.optimizer, ema=0.0),
    )


def pi05_small() -> OpenpiConfig:
    return OpenpiConfig(
        data=Path("demos/tabletop"),
        out=Path("runs/pi05_small"),
        sizes="small",
        steps=4000,
        batch=32,
        chunk=8,
        optimizer=SMALL,
    )


# ---- VGGT ------------------------------------------------------------------------------------------------------------

VGGT_FACTORS: dict[str, dict[str, float]] = {
    "ours": {"language_encoder.projector.": 0.1, "decoder.": 2.0},
    "reference": {"language_encoder.projector.": 0.1, "action_head.": 2.0},
}
"""By the policy's form: AtlasVLA's factors of the learning rate, language projector a tenth, what acts twice."""

VGGT_LANGUAGE = {"language_encoder.language_model.": 0.05}
"""The same, of a language model that is not frozen."""


def vggt_vla_libero(suite: str) -> VggtConfig:
    return VggtConfig(
        data=Path("data") / f"{suite}_no_noops",
        out=Path(f"runs/vggt_vla_{suite}"),
        vggt=Path("checkpoints/VGGT-1B/model.safetensors"),
        qwen=Path("checkpoints/Qwen3-0.6B-Base"),
        steps=30_000,
        batch=32,
        chunk=10,
        learning_rate_of=VGGT_FACTORS["ours"],
        optimizer=OptimizerConfig(learning_rate=1e-4, warmup=1000, betas=(0.9, 0.999), ema=0.0),
        lora_rank=8,
        lora_alpha=16,
        precision="bf16",
        checkpointing=True,
        save_every=2000,
        validate_every=2000,
        device="cuda",
    )


def vggt_vla_small() -> VggtConfig:
    return VggtConfig(
        data=Path("demos/tabletop"),
        out=Path("runs/vggt_vla_small"),
        sizes="small",
        steps=4000,
        batch=32,
        optimizer=SMALL,
    )


# ---- all of them -----------------------------------------------------------------------------------------------------

NAMES = dict(zip(SUITES, ("LIBERO-Spatial", "LIBERO-Object", "LIBERO-Goal", "LIBERO-10"), strict=True))

PRESETS: dict[str, Preset] = {
    "tiny_tabletop": Preset("`tiny` on the built-in tabletop suite: minutes on two CPU cores.", tiny_tabletop),
    **{
        f"tiny_{suite}": Preset(f"`tiny` on {name}: under an hour on two CPU cores.", partial(tiny_libero, suite))
        for suite, name in NAMES.items()
    },
    **{
        f"openvla_{suite}": Preset(f"OpenVLA on {name}, LoRA of rank 32.", partial(openvla_libero, suite))
        for suite, name in NAMES.items()
    },
    **{
        f"oft{kind}_{suite}": Preset(
            f"OpenVLA-OFT{with_} on {name}, LoRA of rank 32.", partial(oft_libero, suite, *how)
        )
        for kind, with_, how in (
            ("", "", ()),
            ("_diffusion", " with a diffusion head", ("diffusion",)),
            ("_film", " with FiLM", ("l1", True)),
        )
        for suite, name in NAMES.items()
    },
    "openvla_small": Preset("OpenVLA, reduced, from nothing, on the tabletop suite.", openvla_small),
    "oft_small": Preset("OpenVLA-OFT, reduced, from nothing, on the tabletop suite.", oft_small),
    "pi0_libero": Preset("pi0 on LIBERO's four suites, every weight.", pi0_libero),
    "pi05_libero": Preset("pi0.5 on LIBERO's four suites, every weight.", pi05_libero),
    "pi05_xvr_libero": Preset("The same from a base whose reader was tuned on XVR.", pi05_xvr_libero),
    "pi0_libero_lora": Preset("pi0 with adapters, for one GPU.", pi0_libero_lora),
    "pi05_libero_lora": Preset("pi0.5 with adapters, for one GPU.", pi05_libero_lora),
    "pi05_xvr_libero_lora": Preset(
        "The same from a base whose reader was tuned on XVR, with adapters.", pi05_xvr_libero_lora
    ),
    **{
        f"vggt_vla_{suite}": Preset(f"A policy on VGGT and Qwen3 on {name}.", partial(vggt_vla_libero, suite))
        for suite, name in NAMES.items()
    },
    "vggt_vla_small": Preset("The same, reduced, from nothing, on the tabletop suite.", vggt_vla_small),
    "pi05_small": Preset("pi0.5, reduced, from nothing, on the tabletop suite.", pi05_small),
}
