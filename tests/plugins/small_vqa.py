"""Questions about flat colours, a tokenizer for them, and a PaliGemma small enough to learn them in seconds."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from handeye.checkpoints.manifest import Answering
from handeye.checkpoints.save import save
from handeye.conventions.plain import to_plain
from handeye.data.pipeline.vocabulary import Vocabulary
from handeye.data.xvr.form import Form
from handeye.data.xvr.small_vocabulary import write_small_vocabulary
from handeye.models import paligemma
from handeye.models.gemma import GemmaConfig
from handeye.models.siglip import SiglipConfig

COLOURS = {"red": (220, 30, 30), "green": (30, 180, 40), "blue": (30, 60, 220), "gray": (128, 128, 128)}
PIECES = 330
SIZE, LENGTH, PICTURES = 28, 64, 3


def question(name: str, seed: int) -> tuple[dict[str, object], list[np.ndarray]]:
    """ "What colour is picture K?" about one to three flat pictures."""
    random = np.random.default_rng(seed)
    colours = [list(COLOURS)[i] for i in random.integers(len(COLOURS), size=1 + seed % PICTURES)]
    asked = int(random.integers(len(colours)))
    blocks: list[dict[str, object]] = []
    for place in range(1, len(colours) + 1):
        blocks.append({"type": "text", "text": f"Image {place}:\n"})
        blocks.append({"type": "image_url", "image_url": {"url": f"images/{name}_{place}.png"}})
    blocks.append({"type": "text", "text": f"What colour is image {asked + 1}?"})
    line = {
        "sample_id": name,
        "task": f"task{1 + seed % 2}",
        "prompt_blocks": blocks,
        "ground_truth_answer": colours[asked].capitalize(),
    }
    return line, [np.full((20, 24, 3), COLOURS[colour], np.uint8) for colour in colours]


def write_split(root: Path, split: str, seeds: range) -> None:
    (root / "images").mkdir(parents=True, exist_ok=True)
    lines = []
    for seed in seeds:
        line, pictures = question(f"{split}-{seed}", seed)
        for place, picture in enumerate(pictures, start=1):
            Image.fromarray(picture).save(root / f"images/{split}-{seed}_{place}.png")
        lines.append(json.dumps(line) + "\n")
    (root / f"{split}.jsonl").write_text("".join(lines))


def write_questions(root: Path, *, train: int = 12, valid: int = 6) -> Path:
    """A folder in XVR's layout, with its tokenizer."""
    write_split(root, "train", range(train))
    write_split(root, "valid", range(100, 100 + valid))
    texts = ["What colour is image 1?", "Image 2:\n", *COLOURS]
    write_small_vocabulary(root / "tokenizer.model", texts * 3, pieces=PIECES)
    return root


def form(root: Path) -> Form:
    return Form(vocabulary=Vocabulary.of(root / "tokenizer.model"), length=LENGTH, pictures=PICTURES, size=SIZE)


def config() -> paligemma.Config:
    return paligemma.Config(
        vision=SiglipConfig(image_size=SIZE, patch=14, width=8, depth=1, mlp=12, heads=2),
        language=GemmaConfig(width=16, depth=2, mlp=24, heads=2, kv_heads=1, head_dim=8),
        vocabulary=PIECES,
    )


def model(seed: int = 0) -> paligemma.Model:
    made = paligemma.Model(config())
    made.initialise(torch.Generator().manual_seed(seed))
    return made.eval()


def manifest(root: Path) -> Answering:
    return Answering(
        family="paligemma", config=to_plain(config()), files={}, tensors=0, form=form(root), step=7,
        provenance={"made": "by a test"},
    )  # fmt: skip


def write_checkpoint(folder: Path, root: Path, *, seed: int = 0) -> Path:
    save(folder, manifest(root), model(seed).state_dict())
    return folder
