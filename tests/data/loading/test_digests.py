from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from handeye.data.loading import digests
from handeye.data.loading.digests import file_digests


@pytest.fixture
def files(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Three, of a set that counts as large, left alone for long enough."""
    monkeypatch.setattr(digests, "LARGE", 10)
    monkeypatch.setattr(digests, "SETTLED", -1.0)
    made = [tmp_path / "set" / f"{name}.bin" for name in "abc"]
    made[0].parent.mkdir()
    for number, path in enumerate(made):
        path.write_bytes(bytes([number]) * 10)
    return made


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[str]]:
    """Names of the files that were read since it was last called."""
    names: list[str] = []
    really = digests._read

    def noting(path: Path, advance) -> str:
        names.append(path.stem)
        return really(path, advance)

    def taken() -> list[str]:
        found = names.copy()
        names.clear()
        return found

    monkeypatch.setattr(digests, "_read", noting)
    return taken


def truth(files: list[Path]) -> list[str]:
    return [hashlib.sha256(path.read_bytes()).hexdigest() for path in files]


def test_a_file_is_read_once(files, read) -> None:
    root = files[0].parent
    assert file_digests(root, files) == truth(files) and read() == ["a", "b", "c"]
    assert file_digests(root, files) == truth(files) and read() == []
    files[1].write_bytes(b"other bytes")
    assert file_digests(root, files) == truth(files) and read() == ["b"]


def test_the_same_size_and_an_old_time_do_not_deceive(files, read) -> None:
    root = files[0].parent
    before = files[2].stat()
    file_digests(root, files)
    read()
    files[2].write_bytes(b"x" * 10)
    os.utime(files[2], ns=(before.st_atime_ns, before.st_mtime_ns))
    assert file_digests(root, files) == truth(files) and read() == ["c"]


def test_what_was_just_written_is_not_remembered(files, read, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digests, "SETTLED", 3600.0)
    for _ in range(2):
        assert file_digests(files[0].parent, files) == truth(files) and read() == ["a", "b", "c"]


def test_a_damaged_or_impossible_note_costs_only_time(
    files, read, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = files[0].parent
    file_digests(root, files)
    (note,) = (home / "digests").iterdir()
    for damage in ("", "[]", '{"files": 3}', '{"files": {"x": 1}}'):
        note.write_text(damage)
        read()
        assert file_digests(root, files) == truth(files) and read() == ["a", "b", "c"]
    note.unlink()
    (home / "digests").rmdir()
    (home / "digests").write_text("a file is in the way")
    assert file_digests(root, files) == truth(files)
    assert "are not remembered" in capsys.readouterr().err


def test_a_small_set_leaves_nothing_behind(files, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digests, "LARGE", 1000)
    assert file_digests(files[0].parent, files) == truth(files)
    assert not home.exists()
