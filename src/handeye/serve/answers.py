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
        precision: Literal["float32", "bf16"] = "float32",
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
    pictures: int,
    tokens: int,
    prefix: str,
    length: int,
    device: str = "auto",
    precision: Literal["float32", "bf16"] = "float32",
) -> Answerer:
    """`tokens`, `pictures`, `prefix`: of a question, where the checkpoint does not say how it is asked."""
    chosen = device_of(device)
    model, vocabulary, form = open_half(path, tokenizer=tokenizer, heads=heads)
    form = form or Form(
        vocabulary=vocabulary,
        length=tokens,
        pictures=pictures,
        size=model.config.vision.image_size,
        prefix=prefix,
    )
    return Answerer(model, form, length=length, device=chosen, precision=precision, weights=_digest(path))


def _digest(path: Path) -> str:
    """Of the manifest, which has those of all files; of a file; or else the place."""
    folder = path / "final" if (path / "final").is_dir() else path
    if (folder / manifests.FILE).is_file():
        return sha256_file(folder / manifests.FILE)
    return sha256_file(path) if path.is_file() else str(path.resolve())
