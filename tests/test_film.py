"""The files play everywhere: H.264, yuv420p, even sizes, index before the data."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from handeye.film import encode


@pytest.mark.parametrize(("height", "width", "shown"), [(16, 16, 128), (128, 128, 128), (225, 301, (224, 300))])
def test_what_browsers_need(height: int, width: int, shown: int | tuple[int, int], tmp_path: Path) -> None:
    frames = [np.full((height, width, 3), (20 * i, 255 - 20 * i, 90), np.uint8) for i in range(12)]
    content = encode(frames, frames_per_second=10)
    (tmp_path / "video.mp4").write_bytes(content)
    with av.open(tmp_path / "video.mp4") as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert stream.average_rate == 10
        pictures = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
    assert pictures[0].shape[:2] == (shown if isinstance(shown, tuple) else (shown, shown))
    assert len(pictures) == 12
    for picture, frame in zip(pictures, frames, strict=True):
        assert np.abs(picture.mean((0, 1)) - frame[0, 0]).max() < 8, "colours survive"
    assert 0 < content.find(b"moov") < content.find(b"mdat"), "playable before it is loaded whole"
    assert encode(frames, frames_per_second=10) == content
