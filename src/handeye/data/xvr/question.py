"""One line of an XVR file: a question about several pictures, and its answer.

Blocks are told apart by their `type`. In the published files some carry the other kind's key as null, others leave it
out; both are read. Older files ("eagle2") also say `answer_format` and `answer_options`; what else a line holds
(`target_view`, `image_info`) is kept in `extra`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from handeye.errors import UserError

LONGEST_LINE = 1 << 20
"""Bytes. Published questions have about 2 kB (1,086 characters of text and a dozen blocks at most)."""

_KEYS = ("sample_id", "task", "prompt_blocks", "ground_truth_answer", "answer_format", "answer_options")


@dataclass(frozen=True)
class Text:
    text: str


@dataclass(frozen=True)
class Picture:
    path: str
    """In the data set's folder, with slashes."""


@dataclass(frozen=True, kw_only=True)
class Question:
    id: str
    task: str
    blocks: tuple[Text | Picture, ...]
    answer: str
    answer_format: str = ""
    """`multiple_choice`, `single_choice`, `list`; empty where the file does not say."""

    options: tuple[str, ...] = ()
    """What the answer is chosen from, where the file says it."""

    extra: Mapping[str, Any] = field(default_factory=dict)

    @property
    def pictures(self) -> tuple[str, ...]:
        """Paths in the order in which the text speaks of them; one may come twice."""
        return tuple(block.path for block in self.blocks if isinstance(block, Picture))

    def prompt(self, picture: str = "") -> str:
        """All text, joined as it stands, with `picture` where each picture is. The reference's training text is this
        without any mark; the text itself counts them ("Image 2:")."""
        return "".join(block.text if isinstance(block, Text) else picture for block in self.blocks)


def parse(line: bytes, where: str) -> Question:
    """`where` (file and line) begins every error."""
    try:
        value = json.loads(line.decode())
    except json.JSONDecodeError as error:
        raise _bad(where, f"not JSON: {error.msg} at character {error.pos + 1}") from None
    except (ValueError, RecursionError) as error:
        raise _bad(where, f"not JSON: {error}") from None
    if not isinstance(value, dict):
        raise _bad(where, f"a {type(value).__name__} instead of an object")
    name = _text(value, "sample_id", where)
    where = f"{where} ({name})"
    blocks = value.get("prompt_blocks")
    if not isinstance(blocks, list) or not blocks:
        raise _bad(where, "prompt_blocks is not a list of blocks")
    options = value.get("answer_options") or []
    if not isinstance(options, list) or not all(isinstance(option, str | int) for option in options):
        raise _bad(where, f"answer_options is {options!r:.80} instead of a list of words or numbers")
    question = Question(
        id=name,
        task=_text(value, "task", where),
        blocks=tuple(_block(block, f"{where}: block {number}") for number, block in enumerate(blocks, start=1)),
        answer=_text(value, "ground_truth_answer", where),
        answer_format=_text(value, "answer_format", where) if value.get("answer_format") is not None else "",
        options=tuple(str(option) for option in options),
        extra={key: item for key, item in value.items() if key not in _KEYS},
    )
    if not question.pictures:
        raise _bad(where, "it asks about no picture")
    if not question.prompt().strip():
        raise _bad(where, "it has no text")
    return question


def _block(block: object, where: str) -> Text | Picture:
    if not isinstance(block, dict):
        raise _bad(where, f"a {type(block).__name__} instead of an object")
    kind = block.get("type")
    if kind not in ("text", "image_url"):
        raise _bad(where, f"its type is {kind!r}; text and image_url are read")
    if more := [key for key, item in block.items() if key not in ("type", kind) and item is not None]:
        raise _bad(where, f"a block of type {kind} that also has {more[0]}")
    if kind == "text":
        return Text(_text(block, "text", where, empty=True))
    link = block.get("image_url")
    if not isinstance(link, dict):
        raise _bad(where, f"image_url is {'null' if link is None else repr(link)[:80]} instead of an object with a url")
    return Picture(_inside(_text(link, "url", where), where))


def _inside(url: str, where: str) -> str:
    """A path that stays in the data set's folder."""
    path = PurePosixPath(url)
    if ":" in url:
        raise _bad(where, f"the picture is at {url!r:.80}; pictures are files of the data set, nothing is fetched")
    if path.is_absolute() or ".." in path.parts or "\\" in url or "\0" in url or not path.parts:
        raise _bad(where, f"the picture {url!r:.80} is outside the data set's folder")
    return str(path)


def _text(holder: Mapping[str, Any], key: str, where: str, *, empty: bool = False) -> str:
    value = holder.get(key)
    if not isinstance(value, str):
        raise _bad(where, f"{key} is {'missing' if value is None else f'{value!r:.80} instead of text'}")
    if not (empty or value.strip()):
        raise _bad(where, f"{key} is empty")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise _bad(where, f"{key} has half a character in it") from None
    return value


def _bad(where: str, why: str) -> UserError:
    return UserError(
        f"{where} is not a question that can be used.", why=why, fix="get the file again, or mend the line"
    )
