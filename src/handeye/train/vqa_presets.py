"""Complete configurations of fine-tuning on questions. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from handeye.train.vqa_config import VqaConfig


def paligemma_xvr() -> VqaConfig:
    """PaliGemma, or the reading half of pi0.5, on XVR's questions about several pictures. Batch, AdamW and learning
    rate are those of the reference's newest trainer (SChaeck/paligemma_jax_training ff5458d, scripts/03)."""
    return VqaConfig(
        preset="paligemma_xvr",
        data=Path("data/Jaehwisong/XVR"),
        out=Path("runs/paligemma_xvr"),
        start="vlm.npz",
        recompute=True,
    )


def paligemma_overfit() -> VqaConfig:
    """The proof that learning works: 20 questions must be answered right, 95 % of them, or the exit code is 1."""
    return VqaConfig(
        preset="paligemma_overfit",
        data=Path("data/Jaehwisong/XVR"),
        out=Path("runs/paligemma_overfit"),
        start="vlm.npz",
        train_examples=20,
        valid="train.jsonl",  # the very questions that it learns
        valid_examples=20,
        trainable="all",
        epochs=200,
        accumulate=1,
        schedule="constant",  # it ends when it can, not when a schedule does
        warmup=0.02,
        validate_every=25,
        save_every=200,
        keep=1,
        proof=0.95,
    )


PRESETS_VQA: dict[str, Callable[[], VqaConfig]] = {
    preset.__name__: preset for preset in (paligemma_xvr, paligemma_overfit)
}
