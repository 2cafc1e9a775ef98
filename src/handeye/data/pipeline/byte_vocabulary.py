"""Tokenizers without words: each byte of a sentence is one token, by the id that a published vocabulary has for that
byte. A small model that is trained from nothing reads with them what its large sister reads in words, and needs no
file that somebody must fetch."""

from __future__ import annotations

from collections.abc import Mapping

from handeye.data.pipeline.vocabulary import Vocabulary
from handeye.paths import home
from handeye.records import write_bytes

FIRST: Mapping[str, int] = {"llama": 3, "gemma": 217}
"""The id of byte 0: `<0x00>` in Llama-2's and in Gemma's vocabulary, followed by the other 255."""


def byte_vocabulary(like: str) -> Vocabulary:
    """A tokenizer.json that encodes text as those ids. Kept below HANDEYE_HOME; a checkpoint carries its own copy."""
    path = home() / "tokenizers" / f"{like}-bytes.json"
    if not path.exists():
        write_bytes(path, _file(FIRST[like]))
    return Vocabulary.of(path)


def _file(first: int) -> bytes:
    from tokenizers import Tokenizer
    from tokenizers.models import BPE

    unknown = {"<unk>": 0 if first == FIRST["llama"] else 3}
    ids = {**unknown, **{f"<0x{byte:02X}>": first + byte for byte in range(256)}}
    return str(Tokenizer(BPE(vocab=ids, merges=[], unk_token="<unk>", byte_fallback=True)).to_str()).encode()
