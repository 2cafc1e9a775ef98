"""A task's sentence and the text a model reads."""

from __future__ import annotations

import re

import numpy as np
from jaxtyping import Int64

from handeye.errors import UserError


def plain_text(sentence: str) -> str:
    """Lower case, single blanks, none at the ends: what `tiny` reads."""
    return " ".join(sentence.lower().split())


def byte_ids(text: str, length: int) -> Int64[np.ndarray, "length"]:
    """UTF-8 bytes plus one; 0 pads on the right. Longer text is an error: a cut sentence is another task."""
    content = text.encode()
    if not 0 < len(content) <= length:
        raise UserError(
            f"The prompt {text!r} has {len(content)} bytes.",
            why=f"the policy reads 1 to {length}",
            fix="shorten the task's sentence, or train with a longer prompt (the step EncodePrompt's `length`)",
        )
    ids = np.zeros(length, np.int64)
    ids[: len(content)] = np.frombuffer(content, np.uint8).astype(np.int64) + 1
    return ids


def sentence_of_name(name: str) -> str | None:
    """The sentence in a LIBERO task's name: `KITCHEN_SCENE3_turn_on_the_stove` -> "turn on the stove". None: there is
    none (fewer than two words). The benchmark gives policies this one, not the task file's own (LIBERO
    benchmark/__init__.py, grab_language_from_filename), and so do the published RLDS and LeRobot copies."""
    words = re.sub(r"^[A-Z0-9_]*SCENE\d+_", "", name).split("_")
    return " ".join(words) if len(words) > 1 and all(words) else None
