"""Where an episode's video lies."""

from __future__ import annotations

from pathlib import Path

from handeye.evaluate import video
from handeye.types import EpisodeId


def test_one_file_per_episode(tmp_path: Path) -> None:
    episodes = [EpisodeId(suite="s", task=t, initial_state=i, seed=s) for t in (0, 1) for i in (0, 1) for s in (0, 7)]
    assert len({video.path(tmp_path, episode).name for episode in episodes}) == 8
    assert all(video.path(tmp_path, episode).parent == tmp_path / "videos" for episode in episodes)
