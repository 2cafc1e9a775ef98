"""A question as PaliGemma reads it: its pictures as frames, then one row of tokens.

The text is <bos>, the prompt, a line break that is tokenised on its own, the answer, <eos>. All pictures come before
all text; which is which the text says itself ("Image 2:"). A question that does not fit is an error: the reference's
trainers cut the row's end, which is the answer, or the seventh picture, which the text goes on to speak of.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Float32, UInt8

from handeye.conventions.resample import resample
from handeye.data.pipeline.vocabulary import Vocabulary
from handeye.data.xvr.question import Question
from handeye.data.xvr.store import Store
from handeye.errors import UserError

PAD, END, START = 0, 1, 2
"""PaliGemma's <pad>, <eos> and <bos> (big_vision, gemma tokenizer)."""


@dataclass(frozen=True, kw_only=True)
class Form:
    """What the model is given."""

    vocabulary: Vocabulary
    length: int = 512
    """Tokens of a row. The longest published question has about 300."""

    pictures: int = 6
    """Frames. Published questions have 4.3 on average; Cross-scenario ones up to ten."""

    size: int = 224
    """Height and width of a frame, in pixels."""

    prefix: str = ""
    """Before every prompt, with a blank: PaliGemma's own form is `answer en`; the newer reference uses none."""

    lower: bool = True
    """Answers in lower case, as the reference trains them. The prompt keeps its case."""

    loss_on_prompt: bool = False
    """Also learn to say the question."""

    def __post_init__(self) -> None:
        if self.length < 4 or self.pictures < 1 or self.size < 14:
            raise UserError(
                f"A row of {self.length} tokens with {self.pictures} frames of {self.size} pixels holds no question.",
                fix="use at least 4 tokens, 1 frame and 14 pixels",
            )

    def located(self, folder: Path) -> Form:
        """With the tokenizer that lies there."""
        return replace(self, vocabulary=self.vocabulary.located(folder))

    def said(self, ids: Sequence[int]) -> str:
        """The text of an answer: up to <eos>, without blanks around it."""
        known = list(ids)
        spoken = known[: known.index(END)] if END in known else known
        return self.vocabulary.text([number for number in spoken if number not in (PAD, START)]).strip()

    def prompt(self, question: Question) -> str:
        text = question.prompt()
        return f"{self.prefix} {text}" if self.prefix else text

    def ids(self, question: Question, *, answer: bool = True) -> tuple[list[int], list[int]]:
        """(prompt with <bos> and line break, answer with <eos> or nothing)."""
        tokenize = self.vocabulary.load()
        said = question.answer.lower() if self.lower else question.answer
        return (
            [START, *tokenize(self.prompt(question)), *tokenize("\n")],
            [*tokenize(said), END] if answer else [],
        )

    def why_not(self, question: Question) -> str:
        """Why it does not fit; empty if it does."""
        if (pictures := len(question.pictures)) > self.pictures:
            return f"it asks about {pictures} pictures, and {self.pictures} can be given"
        if (tokens := sum(map(len, self.ids(question)))) > self.length:
            return f"it has {tokens} tokens with its answer, and {self.length} can be given"
        return ""

    def row(self, question: Question, *, answer: bool = True) -> dict[str, np.ndarray]:
        """text int64 (L,); mask_input bool (L,), a token is there; mask_ar (L,), it sees only what comes before it;
        mask_loss (L,), it is to be learnt. Padding has False in all three."""
        prompt, said = self.ids(question, answer=answer)
        if (count := len(prompt) + len(said)) > self.length:
            raise _too_much(question, self.why_not(question))
        text, place = np.full(self.length, PAD, np.int64), np.arange(self.length)
        text[:count] = [*prompt, *said]
        there, answering = place < count, (place >= len(prompt)) & (place < count)
        return {
            "text": text,
            "mask_input": there,
            "mask_ar": answering,
            "mask_loss": there if self.loss_on_prompt else answering,
        }

    def frames(self, question: Question, store: Store) -> dict[str, np.ndarray]:
        """images float32 (T, size, size, 3) in [-1, 1], absent ones 0; num_images int64, how many are there."""
        if len(question.pictures) > self.pictures:
            raise _too_much(question, self.why_not(question))
        images = np.zeros((self.pictures, self.size, self.size, 3), np.float32)
        for frame, path in zip(images, question.pictures, strict=False):
            frame[:] = prepare(store.decode(path), self.size)
        return {"images": images, "num_images": np.array(len(question.pictures), np.int64)}

    def encode(self, question: Question, store: Store, *, answer: bool = True) -> dict[str, np.ndarray]:
        """All of it. `answer=False`: to let the model answer."""
        return {**self.frames(question, store), **self.row(question, answer=answer)}


def prepare(image: UInt8[np.ndarray, "h w 3"], size: int) -> Float32[np.ndarray, "size size 3"]:
    """Bilinear, anti-aliased, its proportions not kept, as big_vision resizes."""
    return resample(image, height=size, width=size, kernel="triangle", antialias=True) / np.float32(127.5) - np.float32(
        1
    )


def _too_much(question: Question, why: str) -> UserError:
    return UserError(
        f"The question {question.id} does not fit.",
        why=why,
        fix="allow more pictures or tokens, or leave such questions out by saying so",
    )
