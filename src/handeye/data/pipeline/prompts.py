"""Encode steps that turn the sentence into what a model reads: `prompt` int64 (L,), and for language models
`prompt_mask` bool (L,), True where a token is. Text that does not fit is an error unless cutting it is declared: a
cut sentence is another task. Where the state is part of the prompt, an episode has a prompt for each of its steps:
(N, L)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np

from handeye import console
from handeye.conventions import action_tokens, prompt
from handeye.data.pipeline.item import Item, within
from handeye.data.pipeline.vocabulary import Vocabulary
from handeye.errors import UserError

TooLong = Literal["refuse", "cut"]
MOST_LENGTH = 65_536
"""Tokens, or bytes."""


@dataclass(frozen=True)
class EncodePrompt:
    """The sentence, lower case with single blanks, as UTF-8 bytes plus one; zeros fill up to `length`."""

    length: int

    def __post_init__(self) -> None:
        within(self.length, 1, MOST_LENGTH, "A prompt's length")

    def __call__(self, item: Item) -> Item:
        return {**item, "prompt": prompt.byte_ids(prompt.plain_text(item["prompt"]), self.length)}


@dataclass(frozen=True)
class OpenVlaPrompt:
    """Llama's ids of OpenVLA's question: <s>, the question, and the blank after "Out:" that comes before the first
    action. The reference gets that blank by tokenising the actions with it in training, and appends it by hand when
    it acts."""

    vocabulary: Vocabulary
    length: int
    too_long: TooLong = "refuse"

    def __post_init__(self) -> None:
        within(self.length, 1, MOST_LENGTH, "A prompt's length")

    def __call__(self, item: Item) -> Item:
        ids = [LLAMA_START, *self.vocabulary.load()(prompt.openvla_text(item["prompt"])), action_tokens.SPACE]
        return {**item, **_fill(ids, self.length, LLAMA_PAD, self.too_long, "OpenVlaPrompt")}


@dataclass(frozen=True)
class OpenpiPrompt:
    """PaliGemma's ids of the sentence as openpi writes it. Without `state`: <bos>, the sentence, a line break (pi0, and
    pi0.5 on LIBERO). With it: the normalised proprioception, in 256 bins, is part of the text; the step comes after
    NormalizeProprio and before PadProprio."""

    vocabulary: Vocabulary
    length: int
    """48 for pi0, 200 for pi0.5 (openpi models/pi0_config.py)."""

    state: bool
    too_long: TooLong = "refuse"
    """openpi cuts, with a warning, and loses "Action: "."""

    def __post_init__(self) -> None:
        within(self.length, 1, MOST_LENGTH, "A prompt's length")

    def __call__(self, item: Item) -> Item:
        tokenize, sentence = self.vocabulary.load(), item["prompt"]
        if not self.state:
            ids = [GEMMA_START, *tokenize(prompt.openpi_text(sentence)), *tokenize("\n")]
            return {**item, **self._fill(ids)}
        proprio = item["proprio"]
        bins = prompt.state_bins(proprio).reshape(-1, proprio.shape[-1])
        rows = [self._fill([GEMMA_START, *tokenize(prompt.openpi_state_text(sentence, state))]) for state in bins]
        stacked = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
        return {**item, **{name: value.reshape(*proprio.shape[:-1], self.length) for name, value in stacked.items()}}

    def _fill(self, ids: list[int]) -> dict[str, np.ndarray]:
        return _fill(ids, self.length, GEMMA_PAD, self.too_long, "OpenpiPrompt")


@dataclass(frozen=True)
class QwenPrompt:
    """Qwen's ids of the sentence as it is, nothing before and nothing behind it (AtlasVLA
    vggt_vla/models/language_encoder.py)."""

    vocabulary: Vocabulary
    length: int
    too_long: TooLong = "refuse"
    """AtlasVLA cuts, without a word."""

    pad: int = 151_643
    """<|endoftext|>, which Qwen's tokenizers pad with. A model that does not mask it reads it like any word."""

    def __post_init__(self) -> None:
        within(self.length, 1, MOST_LENGTH, "A prompt's length")
        within(self.pad, 0, 2**24, "An id")

    def __call__(self, item: Item) -> Item:
        ids = self.vocabulary.load()(item["prompt"])
        return {**item, **_fill(ids, self.length, self.pad, self.too_long, "QwenPrompt")}


@dataclass(frozen=True)
class ReplacePrompt:
    """One text whatever the task, for a policy that never saw another. Declared, so that it can be seen."""

    text: str

    def __call__(self, item: Item) -> Item:
        return {**item, "prompt": self.text}


LLAMA_START, LLAMA_PAD = 1, 32000
"""<s>, and the <PAD> that OpenVLA added (openvla prismatic/models/backbones/llm/llama2.py:74-76)."""

GEMMA_START, GEMMA_PAD = 2, 0


def _fill(ids: list[int], length: int, pad: int, too_long: TooLong, step: str) -> dict[str, np.ndarray]:
    if len(ids) > length:
        if too_long == "refuse":
            raise UserError(
                f"The prompt has {len(ids)} tokens.",
                why=f"the policy reads {length}, and what would be cut off is part of the task",
                fix=f"shorten the task's sentence, or use a longer prompt (the step {step}'s `length`)",
            )
        _warn_of_cut(len(ids), length)
        ids = ids[:length]
    row, mask = np.full(length, pad, np.int64), np.zeros(length, bool)
    row[: len(ids)], mask[: len(ids)] = ids, True
    return {"prompt": row, "prompt_mask": mask}


@lru_cache(maxsize=1024)
def _warn_of_cut(tokens: int, length: int) -> None:
    """Once for each pair of lengths."""
    console.warn(f"a prompt of {tokens} tokens is cut to {length}, as the pipeline declares")
