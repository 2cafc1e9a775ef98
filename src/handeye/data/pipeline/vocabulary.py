"""The files with which a prompt becomes token ids. They travel in the checkpoint, by name and digest."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path

from handeye.errors import UserError

Tokenize = Callable[[str], list[int]]
"""Text to ids, without the marks that a prompt's form adds (beginning, end)."""

Speak = Callable[[list[int]], str]
"""Ids to text."""


@dataclass(frozen=True)
class Vocabulary:
    """A tokenizer's file: `tokenizer.json` of the tokenizers library, or a SentencePiece `.model`."""

    name: str
    """Of the file, in the checkpoint's folder."""

    sha256: str
    folder: Path | None = field(default=None, compare=False, metadata={"declared": False})
    """Where it is now; not part of what is saved."""

    def __post_init__(self) -> None:
        if not self.name or self.name != Path(self.name).name or "\\" in self.name or self.name in (".", ".."):
            raise UserError(
                f"'{self.name}' is not the plain name of a tokenizer's file.",
                why="it is looked for in the checkpoint's folder and nowhere else",
                fix="put the file there and give its name alone",
            )
        if Path(self.name).suffix not in _READERS:
            raise UserError(
                f"{self.name} is no tokenizer that can be read.",
                why=f"there are readers for {' and '.join(_READERS)}",
                fix="use a tokenizer.json (tokenizers) or a .model (SentencePiece)",
            )

    @staticmethod
    def of(path: Path) -> Vocabulary:
        """As it lies there now; its digest is what later readers insist on."""
        return Vocabulary(path.name, hashlib.sha256(_read(path)).hexdigest(), path.parent.absolute())

    def located(self, folder: Path) -> Vocabulary:
        return replace(self, folder=folder.absolute())

    def content(self) -> bytes:
        """UserError where the file is missing or another one."""
        if self.folder is None:
            raise RuntimeError(f"{self.name} was not located: call Pipeline.located with the checkpoint's folder")
        content = _read(self.folder / self.name)
        if (found := hashlib.sha256(content).hexdigest()) != self.sha256:
            raise UserError(
                f"{self.folder / self.name} is not the tokenizer that this pipeline was made with.",
                why=f"its sha256 is {found}, not {self.sha256}: every prompt would become other numbers",
                fix="copy the checkpoint again, with all its files",
            )
        return content

    def load(self) -> Tokenize:
        """Read once per process."""
        return _load(self.name, self.sha256, self.folder)[0]

    def text(self, ids: Sequence[int]) -> str:
        """What these tokens say. Ids without a piece, which a model may have rows for, say nothing."""
        return _load(self.name, self.sha256, self.folder)[1](list(ids))

    def pieces(self) -> int:
        """How many it has: rows of a model's table of tokens."""
        return _load(self.name, self.sha256, self.folder)[2]


@lru_cache(maxsize=8)
def _load(name: str, sha256: str, folder: Path | None) -> tuple[Tokenize, Speak, int]:
    vocabulary = Vocabulary(name, sha256, folder)
    content = vocabulary.content()
    try:
        return _READERS[Path(name).suffix](content)
    except Exception as error:  # the two libraries raise their own kinds, bare Exception among them
        raise UserError(
            f"{name} cannot be read as a tokenizer.", why=str(error), fix="fetch the tokenizer's file again"
        ) from error


def _json(content: bytes) -> tuple[Tokenize, Speak, int]:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_buffer(content)

    def speak(ids: list[int]) -> str:
        return str(tokenizer.decode(ids, skip_special_tokens=False))

    return lambda text: list(tokenizer.encode(text, add_special_tokens=False).ids), speak, tokenizer.get_vocab_size()


def _sentencepiece(content: bytes) -> tuple[Tokenize, Speak, int]:
    from sentencepiece import SentencePieceProcessor

    processor = SentencePieceProcessor(model_proto=content)

    def speak(ids: list[int]) -> str:
        return str(processor.decode([number for number in ids if number < processor.get_piece_size()]))

    return lambda text: list(processor.encode(text)), speak, processor.get_piece_size()


_READERS: dict[str, Callable[[bytes], tuple[Tokenize, Speak, int]]] = {".json": _json, ".model": _sentencepiece}


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(
            f"The tokenizer's file {path} cannot be read.",
            why=str(error),
            fix="copy the checkpoint again, with all its files",
        ) from None
