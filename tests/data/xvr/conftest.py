"""A small made-up XVR folder with known contents."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


def png(seed: int, size: tuple[int, int] = (8, 6), mode: str = "RGB") -> bytes:
    """A noise picture: width and height in `size`."""
    out = io.BytesIO()
    channels = {"L": (), "RGB": (3,), "RGBA": (4,)}[mode]
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], *channels), dtype=np.uint8)
    Image.fromarray(pixels, mode).save(out, "PNG")
    return out.getvalue()


def line(name: str, pictures: list[int], *, nulls: bool = False, **changes: object) -> dict:
    """A question about pictures by number, each announced by a text block."""
    blocks: list[dict] = [{"type": "text", "text": "Look at all.\n"}]
    for place, number in enumerate(pictures, start=1):
        blocks.append({"type": "text", "text": f"\nImage {place}:\n"})
        blocks.append({"type": "image_url", "image_url": {"url": f"images/img_{number}.png"}})
    blocks.append({"type": "text", "text": "\nWhich one?"})
    if nulls:
        blocks = [{"text": None, "image_url": None, **block} for block in blocks]
    return {"sample_id": name, "task": "task6", "prompt_blocks": blocks, "ground_truth_answer": "2", **changes}


def write_lines(path: Path, lines: list[dict]) -> Path:
    path.write_text("".join(json.dumps(one) + "\n" for one in lines))
    return path


def write_shard(path: Path, members: dict[str, bytes]) -> Path:
    path.parent.mkdir(exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


LINES = [
    line("a", [1, 2]),
    line("b", [2, 3, 1], nulls=True, ground_truth_answer="Red", task="task9"),
    line("c", [4], ground_truth_answer="3"),
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three questions; pictures 1 to 3 are files, 4 and 5 are in a shard."""
    root = tmp_path / "xvr"
    (root / "images").mkdir(parents=True)
    for number in (1, 2, 3):
        (root / f"images/img_{number}.png").write_bytes(png(number))
    write_shard(root / "image_shards/images_000.tar", {f"images/img_{n}.png": png(n) for n in (4, 5)})
    write_lines(root / "train.jsonl", LINES)
    return root


@pytest.fixture
def made() -> dict[str, Callable]:
    """The makers above, for tests in other modules."""
    return {"png": png, "line": line, "write_lines": write_lines, "write_shard": write_shard}
