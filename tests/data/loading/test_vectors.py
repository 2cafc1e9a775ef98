from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from handeye.data.hdf5.source import Hdf5Source
from handeye.data.loading import digests, vectors
from handeye.data.loading.demonstrations import Demonstrations


def never(*_: object, **__: object) -> None:
    raise AssertionError("nothing should be read")


def test_those_of_a_large_set_are_read_once(
    demo_folder: Path, home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small = Demonstrations(demo_folder).vectors()
    assert small.folder is None and not home.exists()
    monkeypatch.setattr(vectors, "LARGE", 10)
    monkeypatch.setattr(digests, "LARGE", 10)
    first = Demonstrations(demo_folder).vectors()
    with monkeypatch.context() as patched:
        patched.setattr(Hdf5Source, "load", never)
        demos = Demonstrations(demo_folder)
        second = demos.vectors()
        assert demos.statistics().steps == 90
        copy = pickle.loads(pickle.dumps(second))
    for found in (first, second, copy):
        assert isinstance(found.actions, np.memmap)
        np.testing.assert_array_equal(found.actions, small.actions)
        np.testing.assert_array_equal(found.proprio, small.proprio)
        assert found.firsts == small.firsts
    capsys.readouterr()
    for path in (home / "vectors", home / "digests"):
        path.rename(path.with_name(path.name + "-gone"))
        path.write_text("a file is in the way")
    kept = Demonstrations(demo_folder).vectors()
    np.testing.assert_array_equal(kept.actions, small.actions)
    assert "the next run will read all vectors" in capsys.readouterr().err


def test_a_part_of_a_set_has_its_own_rows(demo_folder: Path) -> None:
    demos = Demonstrations(demo_folder)
    part = demos.only(demos.episodes[3:9])
    for ref in part.episodes:
        episode = demos.load(ref)
        actions, proprio = part.vectors().of(ref)
        np.testing.assert_array_equal(actions, episode.actions)
        np.testing.assert_array_equal(proprio, episode.proprio)
    assert part.statistics().steps == sum(ref.length for ref in part.episodes)
    assert part.vectors() is demos.vectors()
