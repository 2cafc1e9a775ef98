from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from handeye.data.xvr import questions
from handeye.data.xvr.questions import Questions, open_questions, scan
from handeye.errors import UserError


def test_questions_are_read_when_asked_for(folder: Path, made) -> None:
    made["write_lines"](folder / "valid.jsonl", [made["line"]("v", [5])])
    splits = open_questions(folder)
    assert {name: len(split) for name, split in splits.items()} == {"train": 3, "valid": 1}
    train = splits["train"]
    assert [question.id for question in train] == ["a", "b", "c"] == [entry.id for entry in train.entries]
    assert train[1].answer == "Red" and train[1].pictures == (
        "images/img_2.png",
        "images/img_3.png",
        "images/img_1.png",
    )
    assert [entry.pictures for entry in train.entries] == [2, 3, 1]
    assert [question.id for question in train.only([2, 0])] == ["c", "a"]
    assert pickle.loads(pickle.dumps(train))[2].id == "c"
    with pytest.raises(UserError, match="is left"):
        train.only([])
    assert list(open_questions(folder / "valid.jsonl")) == ["valid"]


def test_bytes_around_the_lines(folder: Path) -> None:
    path = folder / "train.jsonl"
    whole = path.read_bytes()
    for content in (whole.rstrip(b"\n"), whole.replace(b"\n", b"\r\n"), b"\xef\xbb\xbf" + whole, whole + b"\n \n"):
        path.write_bytes(content)
        assert [question.id for question in Questions(path)] == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda content: b"", "is empty"),
        (lambda content: b"\n\n", "is empty"),
        (lambda content: content.replace(b"\n", b"\n\n", 1), "line 2"),
        (lambda content: content + content.split(b"\n")[1], r"line 4: there are two questions called b"),
        (lambda content: content[:-20], "line 3"),
        (lambda content: content.replace(b'"b"', b'"\xff"'), "line 2"),
        (lambda content: b"version https://git-lfs.github.com/spec/v1\noid", "LFS pointer"),
        (lambda content: content + b"{" * (2 << 20) + b"\n", "(?s)line 4.*longer than"),
    ],
)
def test_files_that_are_no_good(folder: Path, change, why: str) -> None:
    path = folder / "train.jsonl"
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(UserError, match=why) as caught:
        Questions(path)
    assert "train.jsonl" in str(caught.value)


def test_a_line_without_an_end_is_not_read_into_memory(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(questions, "LONGEST_LINE", 300)
    found = list(scan(folder / "train.jsonl"))
    assert len(found) == 1 and isinstance(found[0].question, UserError)


def test_no_questions(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        open_questions(tmp_path / "none")
    with pytest.raises(UserError, match=r"no file named \*.jsonl|holds no questions"):
        open_questions(tmp_path)
