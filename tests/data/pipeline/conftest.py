"""Tokenizers small enough to make on the spot, and made-up items."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from handeye.data.pipeline.vocabulary import Vocabulary

LLAMA = {"<unk>": 0, "<s>": 1, "</s>": 2} | {chr(c): c for c in range(10, 127)} | {"▁": 200, "\n": 10}


@pytest.fixture(scope="session")
def tokenizer_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One id per character, in the form of Llama's tokenizer.json."""
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers

    tokenizer = Tokenizer(models.WordLevel(LLAMA, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("."), behavior="isolated")
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    path.write_text(json.dumps(json.loads(tokenizer.to_str())))
    return path


@pytest.fixture
def vocabulary(tokenizer_file: Path) -> Vocabulary:
    return Vocabulary.of(tokenizer_file)


def make_item(steps: int = 3, size: tuple[int, int] = (8, 6)) -> dict:
    rng = np.random.default_rng(0)
    images = {
        f"image.{name}": rng.integers(0, 256, (steps, *size, 3), dtype=np.uint8) for name in ("agentview", "wrist")
    }
    return {**images, "proprio": rng.normal(size=(steps, 8)).astype(np.float32), "prompt": "Open  the Drawer"}


@pytest.fixture
def item() -> dict:
    """Three steps of an episode."""
    return make_item()
