"""A tokenizer of a few hundred pieces with PaliGemma's marks and settings: for reduced models, whose table of tokens
should not be their largest part."""

from __future__ import annotations

import io
from collections.abc import Iterable
from pathlib import Path

from handeye.errors import UserError
from handeye.records import write_bytes

FEWEST = 320
"""Pieces: 256 bytes, the marks, and letters."""


def write_small_vocabulary(path: Path, texts: Iterable[str], *, pieces: int) -> None:
    """SentencePiece with Gemma's settings: bytes for what it does not know, digits one by one, no blank put before a
    text, a line break as one piece, <pad> 0, <eos> 1, <bos> 2, <unk> 3."""
    from sentencepiece import SentencePieceTrainer, set_min_log_level

    if path.suffix != ".model" or pieces < FEWEST:
        raise UserError(
            f"{path} cannot be a tokenizer of {pieces} pieces.",
            fix=f"name it *.model, and use at least {FEWEST} pieces",
        )
    set_min_log_level(2)
    made = io.BytesIO()
    SentencePieceTrainer.train(
        sentence_iterator=iter(sorted({line for text in texts for line in text.splitlines() if line.strip()})),
        model_writer=made,
        model_type="bpe",
        vocab_size=pieces,
        hard_vocab_limit=False,
        byte_fallback=True,
        split_digits=True,
        add_dummy_prefix=False,
        remove_extra_whitespaces=False,
        normalization_rule_name="identity",
        allow_whitespace_only_pieces=True,
        user_defined_symbols=["\n"],
        pad_id=0,
        eos_id=1,
        bos_id=2,
        unk_id=3,
        num_threads=1,
    )
    write_bytes(path, made.getvalue())
