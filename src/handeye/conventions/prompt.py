"""A task's sentence and the text that each family reads. The exact strings are part of a policy: a blank more is
another prompt."""

from __future__ import annotations

import re

import numpy as np
from jaxtyping import Float, Int64

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


def openvla_text(sentence: str) -> str:
    """What OpenVLA and OpenVLA-OFT are asked (openvla prismatic/vla/datasets/datasets.py:42-47 in training,
    experiments/robot/openvla_utils.py:163 in evaluation). The first action follows after one more token, a blank."""
    return f"In: What action should the robot take to {sentence.lower()}?\nOut:"


def openpi_text(sentence: str) -> str:
    """As openpi cleans a sentence (openpi models/tokenizer.py:22-48): the case is kept, blanks at the ends are not. pi0
    reads this, then a line break that is tokenised on its own."""
    return sentence.strip().replace("_", " ").replace("\n", " ")


def openpi_state_text(sentence: str, bins: Int64[np.ndarray, "S"]) -> str:
    """What pi0.5 reads when its state is part of the prompt (the same file)."""
    numbers = " ".join(str(number) for number in bins)
    return f"Task: {openpi_text(sentence)}, State: {numbers};\nAction: "


def state_bins(normalised: Float[np.ndarray, "*n S"]) -> Int64[np.ndarray, "*n S"]:
    """256 equal intervals of [-1, 1): 0 to 255. Below -1 it is -1, which openpi writes as such; above 1 it is 255."""
    return np.digitize(normalised, np.linspace(-1, 1, 257)[:-1]) - 1


def sentence_of_name(name: str) -> str | None:
    """The sentence in a LIBERO task's name: `KITCHEN_SCENE3_turn_on_the_stove` -> "turn on the stove". None: there is
    none (fewer than two words). The benchmark gives policies this one, not the task file's own (LIBERO
    benchmark/__init__.py, grab_language_from_filename), and so do the published RLDS and LeRobot copies."""
    words = re.sub(r"^[A-Z0-9_]*SCENE\d+_", "", name).split("_")
    return " ".join(words) if len(words) > 1 and all(words) else None
