"""What a folder is, told from its files; and a source gives the same pictures whole and by step."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from handeye.data.source import Source, format_of, open_source
from handeye.errors import UserError


def test_a_folder_of_hdf5_files_is_a_source(demo_folder: Path) -> None:
    source = open_source(demo_folder)
    assert isinstance(source, Source) and source.stored.format == "hdf5" and source.stored.version == "handeye"
    assert source.stored.codec == "gzip" and not source.stored.lacks
    assert len(source.episodes) == 15 and len(source.files) == 3
    for ref in source.episodes[::7]:
        episode = source.load(ref)
        assert (episode.id, episode.task, episode.prompt, len(episode)) == (ref.id, ref.task, ref.prompt, ref.length)
        assert episode.success and episode.joints is not None and episode.states is not None
        steps = [3, 0, 3]
        for camera, frames in source.frames(ref, steps).items():
            np.testing.assert_array_equal(frames, episode.images[camera][steps])
        actions, proprio = source.stored_vectors(ref)
        np.testing.assert_array_equal(actions, episode.actions)
        np.testing.assert_array_equal(proprio, episode.proprio)
        assert source.load(ref, images=False).images == {}


def test_a_folder_that_is_none_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        open_source(tmp_path / "absent")
    with pytest.raises(UserError, match="no demonstrations"):
        open_source(tmp_path)
    (tmp_path / "train.jsonl").write_text("{}\n")
    with pytest.raises(UserError, match="questions about pictures"):
        format_of(tmp_path)


def test_two_formats_in_one_folder_are_not_guessed(tmp_path: Path) -> None:
    (tmp_path / "a_demo.hdf5").write_bytes(b"x")
    (tmp_path / "meta").mkdir()
    (tmp_path / "meta" / "info.json").write_text("{}")
    with pytest.raises(UserError, match="several formats: lerobot, hdf5"):
        format_of(tmp_path)
