"""A demonstration to look at: the pictures are those of its steps, and a wrong name is answered with the right one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from handeye.data.config import ShowConfig
from handeye.data.show import CELL, MARGIN, contact_sheet, find, run
from handeye.data.source import open_source
from handeye.errors import UserError


def test_sheet_and_video(demo_folder: Path, tmp_path: Path) -> None:
    sheet, film = run(ShowConfig(root=demo_folder, episode="b/put_the_bowl_on_the_plate/demo_2", out=tmp_path))
    assert sheet.name == "b-put_the_bowl_on_the_plate-demo_2.png"
    with Image.open(sheet) as picture:
        assert picture.width == MARGIN + 6 * (CELL + MARGIN), "six steps, each shown once"
        assert len(np.unique(np.asarray(picture).reshape(-1, 3), axis=0)) > 100
    with av.open(film) as container:
        assert sum(1 for _ in container.decode(video=0)) == 6
        assert container.streams.video[0].average_rate == 20


def test_the_sheet_shows_the_steps_it_names(demo_folder: Path) -> None:
    source = open_source(demo_folder)
    episode = source.load(source.episodes[4])
    images = {
        name: np.full_like(frames, (40 + 100 * n, 7, 201)) for n, (name, frames) in enumerate(episode.images.items())
    }
    sheet = np.asarray(contact_sheet(replace(episode, images=images), columns=3))
    rows = [np.argwhere((sheet == (shade, 7, 201)).all(-1)) for shade in (40, 140)]
    assert [len(row) for row in rows] == [3 * CELL * CELL] * 2
    assert rows[0][:, 0].max() < rows[1][:, 0].min()


def test_names(demo_folder: Path) -> None:
    source = open_source(demo_folder)
    assert find(source, "0") == source.episodes[0]
    with pytest.raises(UserError, match="0 to 14"):
        find(source, "15")
    with pytest.raises(UserError, match="Did you mean 'a/open_the_drawer/demo_1'"):
        find(source, "a/open_the_drawer_demo_1")
