"""A file of questions: one JSON object a line, read when asked for. `train.jsonl`, `valid.jsonl`, `xvr_eval.jsonl`."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from handeye.data.xvr.question import LONGEST_LINE, Question, parse
from handeye.data.xvr.store import Store
from handeye.errors import UserError

_MARK = b"\xef\xbb\xbf"
"""Of UTF-8, which some editors put before the first line."""


@dataclass(frozen=True, kw_only=True)
class Line:
    """One line of a file, as far as it can be read."""

    number: int
    """From 1."""

    offset: int
    length: int
    question: Question | UserError


@dataclass(frozen=True, kw_only=True)
class Entry:
    """What is kept of a question in memory."""

    id: str
    task: str
    answer: str
    pictures: int
    options: int
    """How many answers it offers; 0 where the file does not say."""


class Questions:
    """A split, opened by reading every line once: a bad one is an error that names it. A question takes about 300 bytes
    of memory; its text stays in the file."""

    def __init__(self, path: Path) -> None:
        self.path, self.root, self.name = path, path.parent, path.stem
        self.store = Store(path.parent)
        entries, places, lines = list[Entry](), list[tuple[int, int]](), dict[str, int]()
        for line in scan(path):
            if isinstance(line.question, UserError):
                raise line.question
            question = line.question
            if question.id in lines:
                raise UserError(
                    f"{path} line {line.number}: there are two questions called {question.id}.",
                    why=f"the first is in line {lines[question.id]}",
                    fix="get the file again, or take one of the lines out",
                )
            lines[question.id] = line.number
            entries.append(entry(question))
            places.append((line.offset, line.length))
        self.entries: tuple[Entry, ...] = tuple(entries)
        self._places = np.array(places, np.int64)

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, index: int) -> Question:
        offset, length = self._places[index].tolist()
        with self.path.open("rb") as file:
            file.seek(offset)
            return parse(file.read(length), f"{self.path} ({self.entries[index].id})")

    def __iter__(self) -> Iterator[Question]:
        return (self[index] for index in range(len(self)))

    def only(self, indices: Sequence[int]) -> Questions:
        """The same split, fewer questions, in this order."""
        if not len(indices):
            raise UserError(f"No question of {self.path} is left.", fix="leave fewer of them out")
        chosen = copy.copy(self)
        chosen.entries = tuple(self.entries[index] for index in indices)
        chosen._places = self._places[np.asarray(indices, np.int64)]
        return chosen


def entry(question: Question) -> Entry:
    return Entry(
        id=question.id,
        task=question.task,
        answer=question.answer,
        pictures=len(question.pictures),
        options=len(question.options),
    )


def files_of(root: Path) -> list[Path]:
    """The files of questions in a folder, or the one that is named. UserError where there is none."""
    if root.is_file():
        return [root]
    if not root.is_dir():
        raise UserError(f"{root} does not exist.", fix="check the path, or get the data: `handeye fetch xvr`")
    if not (found := sorted(path for path in root.glob("*.jsonl") if path.name[0] != ".")):
        raise UserError(
            f"{root} holds no questions.",
            why="there is no file named *.jsonl in it",
            fix="check the path, or get the data: `handeye fetch xvr`",
        )
    return found


def holds_questions(root: Path) -> bool:
    """Whether a folder or file that holds no demonstrations is meant as questions."""
    return root.suffix == ".jsonl" or any(root.glob("*.jsonl"))


def open_questions(root: Path) -> dict[str, Questions]:
    """Every split of a folder, by the name of its file."""
    return {path.stem: Questions(path) for path in files_of(root)}


def scan(path: Path) -> Iterator[Line]:
    """Every line, but for empty ones at the end. The last is one that is longer than any question, if there is such a
    line: what follows it cannot be told apart."""
    number = offset = blank = seen = 0
    with path.open("rb") as file:
        while raw := file.readline(LONGEST_LINE + 1):
            number += 1
            where = f"{path} line {number}"
            if not raw.strip():
                blank, offset = blank or number, offset + len(raw)
                continue
            if blank:
                yield _line(blank, offset, _bad(path, f"{path} line {blank}", "it is empty, and others follow"))
                blank = 0
            start = len(_MARK) if number == 1 and raw.startswith(_MARK) else 0
            question: Question | UserError
            if len(raw) > LONGEST_LINE:
                question = _bad(path, where, f"it is longer than {LONGEST_LINE >> 20} MiB")
            elif raw.startswith(b"version https://git-lfs"):
                question = UserError(
                    f"{path} is a Git LFS pointer, not the data itself.", fix="run `git lfs pull` where it was cloned"
                )
            else:
                try:
                    question = parse(raw[start:], where)
                except UserError as error:
                    question = error
            yield Line(number=number, offset=offset + start, length=len(raw) - start, question=question)
            if len(raw) > LONGEST_LINE:
                return
            offset, seen = offset + len(raw), seen + 1
    if not seen:
        yield _line(1, 0, _bad(path, str(path), "it is empty"))


def _line(number: int, offset: int, error: UserError) -> Line:
    return Line(number=number, offset=offset, length=0, question=error)


def _bad(path: Path, where: str, why: str) -> UserError:
    return UserError(f"{where} cannot be read as questions.", why=why, fix=f"get {path.name} again")
