from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from handeye.data.loading import kept
from handeye.data.loading.kept import Kind, keep, mapped
from handeye.errors import UserError

EPISODES = 40
KINDS = {"a": Kind(np.dtype(np.uint8), (3 * EPISODES, 2)), "b": Kind(np.dtype(np.float64), (EPISODES,))}


def rows(number: int) -> dict[str, np.ndarray]:
    return {"a": np.full((3, 2), number, np.uint8), "b": np.array([number / 7])}


def expected() -> dict[str, np.ndarray]:
    return {name: np.concatenate([rows(n)[name] for n in range(EPISODES)]) for name in KINDS}


def make(place: Path, how=rows) -> Path:
    return keep(place / "x", {"what": 1}, KINDS, episodes=EPISODES, make=how, label="making")


def slowly(number: int) -> dict[str, np.ndarray]:
    print(number, flush=True)  # noqa: T201 - whom it is for reads it
    time.sleep(0.02)
    return rows(number)


def check(folder: Path) -> None:
    for name, array in mapped(folder, KINDS).items():
        np.testing.assert_array_equal(array, expected()[name])
    assert sorted(path.name for path in folder.iterdir()) == ["a.npy", "b.npy", "manifest.json"]
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_it_is_made_once(tmp_path: Path) -> None:
    def never(number: int) -> dict[str, np.ndarray]:
        raise AssertionError("it is there")

    check(make(tmp_path))
    check(make(tmp_path, never))


def test_killed_it_goes_on_from_its_last_note(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from pathlib import Path
import test_kept
test_kept.kept.NOTE_EVERY = 0.1
test_kept.make(Path({str(tmp_path)!r}), test_kept.slowly)
"""
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        for line in process.stdout:
            if int(line) == 20:
                break
        os.kill(process.pid, signal.SIGKILL)
    finally:
        process.kill()
        process.communicate(timeout=20)
    made: list[int] = []

    def noting(number: int) -> dict[str, np.ndarray]:
        made.append(number)
        return rows(number)

    check(make(tmp_path, noting))
    assert 0 < made[0] <= 21 and made == list(range(made[0], EPISODES))


@pytest.mark.parametrize("damage", [b"{", b"{}", b'{"episodes": 3, "sizes": {"a": 1000000, "b": 128}}'])
def test_a_damaged_note_begins_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: bytes) -> None:
    monkeypatch.setattr(kept, "NOTE_EVERY", -1.0)

    def fails(number: int) -> dict[str, np.ndarray]:
        if number == 5:
            raise UserError("broken", fix="mend it")
        return rows(number)

    with pytest.raises(UserError, match="broken"):
        make(tmp_path, fails)
    (note,) = tmp_path.glob(".*/arrays/progress.json")
    note.write_bytes(damage)
    check(make(tmp_path))


def test_what_is_damaged_later_is_refused(tmp_path: Path) -> None:
    folder = make(tmp_path)
    os.truncate(folder / "a.npy", 200)
    with pytest.raises(UserError, match=r"a\.npy cannot be read"):
        mapped(folder, KINDS)
    np.save(folder / "a.npy", np.zeros(3))
    with pytest.raises(UserError, match="is not what its name says"):
        mapped(folder, KINDS)
