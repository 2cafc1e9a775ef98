"""A PaliGemma that answers questions about pictures, some at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from handeye.checkpoints import manifest as manifests
from handeye.checkpoints.reading_half import open_half
from handeye.compute.device import device_of
from handeye.conventions.plain import to_plain
from handeye.data.xvr.batches import trimmed
from handeye.data.xvr.form import END, Form
from handeye.data.xvr.question import Question
from handeye.data.xvr.store import Store
from handeye.errors import UserError
from handeye.models import paligemma
from handeye.records import sha256_file


class Answerer:
    """Greedy answers. What one question is answered does not depend on the others: absent pictures and padding are
    masked (tested)."""

    def __init__(
        self,
        model: paligemma.Model,
        form: Form,
        *,
        length: int,
        device: str = "cpu",
        precision: Literal["fp32", "bf16"] = "fp32",
        weights: str = "",
    ) -> None:
        """`length`: tokens of the longest answer. `weights`: what tells these from others."""
        self.model, self.form, self.length = model.eval().to(device), form, length
        self._device, self._half = torch.device(device), precision == "bf16"
        self.identity: dict[str, Any] = {
            "weights": weights,
            "config": asdict(model.config),
            "form": to_plain(form),
            "precision": precision,
        }

    def why_not(self, question: Question) -> str:
        """Why a question cannot be asked; empty if it can."""
        return self.form.why_not(question)

    def __call__(self, questions: Sequence[Question], store: Store) -> list[str]:
        encoded = [self.form.encode(question, store, answer=False) for question in questions]
        batch = trimmed({name: np.stack([one[name] for one in encoded]) for name in encoded[0]})
        moved = {name: torch.from_numpy(array).to(self._device) for name, array in batch.items()}
        with torch.inference_mode(), torch.autocast(self._device.type, torch.bfloat16, enabled=self._half):
            ids, _ = self.model.answer(moved, length=self.length, end=END)
        return [self.form.said(row) for row in ids.tolist()]


def load_answerer(
    path: Path,
    *,
    tokenizer: Path | None = None,
    heads: tuple[int, int] | None = None,
    pictures: int | None = None,
    tokens: int | None = None,
    prefix: str | None = None,
    length: int,
    device: str = "auto",
    precision: Literal["fp32", "bf16"] = "fp32",
) -> Answerer:
    """`tokens`, `pictures`, `prefix`: of a question, where the checkpoint does not say how it is asked; 512, 10 and
    none unless given. Where it says it, what is given must agree."""
    chosen = device_of(device)
    model, vocabulary, form = open_half(path, tokenizer=tokenizer, heads=heads)
    config = model.config
    told: list[tuple[str, Any, Any]] = [("start-heads", heads, (config.language.heads, config.vision.heads))]
    if form is not None:
        told += [("length", tokens, form.length), ("pictures", pictures, form.pictures)]
        told += [("prefix", prefix, form.prefix)]
        told += [("tokenizer", tokenizer and vocabulary.sha256, form.vocabulary.sha256)]
    if differing := [one for one in told if one[1] not in (None, one[2])]:
        raise UserError(
            f"{path} is not asked so.",
            why="; ".join(f"--{flag} is {given!r}, and the checkpoint's {has!r}" for flag, given, has in differing),
            fix=f"leave {' and '.join(f'--{flag}' for flag, *_ in differing)} out",
        )
    form = form or Form(
        vocabulary=vocabulary,
        length=512 if tokens is None else tokens,
        pictures=10 if pictures is None else pictures,
        size=config.vision.image_size,
        prefix=prefix or "",
    )
    return Answerer(model, form, length=length, device=chosen, precision=precision, weights=_digest(path))


def _digest(path: Path) -> str:
    """Of the manifest, which has those of all files; of a file; or else the place."""
    folder = path / "final" if (path / "final").is_dir() else path
    if (folder / manifests.FILE).is_file():
        return sha256_file(folder / manifests.FILE)
    return sha256_file(path) if path.is_file() else str(path.resolve())
