"""Does the lerobot library read the same numbers and pixels from a set as handeye does? One line per array, for `diff`.

    python recipes/lerobot_by_lerobot.py handeye DIR > ours.txt
    python recipes/lerobot_by_lerobot.py lerobot DIR > theirs.txt   # lerobot 0.3.3 for versions 2, 0.4.4 for version 3
    diff ours.txt theirs.txt && wc -l ours.txt

The two need not live in one environment. `--pyav` replaces the library's own way to decode video (torchcodec,
torchvision), which is not installable beside every build of torch; what it asks for, and the tolerance, stay.
"""

from __future__ import annotations

import argparse
import hashlib
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

Arrays = dict[str, np.ndarray]


def by_handeye(root: Path) -> Iterator[tuple[int, str, Arrays]]:
    from handeye.data.lerobot.index import read_index
    from handeye.data.lerobot.source import LeRobotSource

    keys = read_index(root).info.keys
    source = LeRobotSource(root)
    for number, ref in enumerate(source.episodes):
        episode = source.load(ref)
        images = {keys.cameras[camera]: frames[:, :, ::-1] for camera, frames in episode.images.items()}
        yield number, ref.prompt, {**images, keys.state: episode.proprio, keys.actions: episode.actions}


def by_lerobot(root: Path, pyav: bool) -> Iterator[tuple[int, str, Arrays]]:
    from lerobot.datasets import lerobot_dataset

    if pyav:
        lerobot_dataset.decode_video_frames = _decode
    data = lerobot_dataset.LeRobotDataset("local/set", root=root)
    columns: dict[int, dict[str, list[Any]]] = defaultdict(lambda: defaultdict(list))
    for row in range(len(data)):
        item = data[row]
        of_episode = columns[int(item["episode_index"])]
        for key in (*data.meta.camera_keys, "task", "state", "actions", "observation.state", "action"):
            if key in item:
                of_episode[key].append(item[key])
    for number, of_episode in columns.items():
        (prompt,) = set(of_episode.pop("task"))
        arrays = {key: np.stack([np.asarray(value) for value in values]) for key, values in of_episode.items()}
        for key in data.meta.camera_keys:  # channels first, in [0, 1]
            arrays[key] = np.rint(arrays[key].transpose(0, 2, 3, 1) * 255).astype(np.uint8)
        yield number, prompt, arrays


def _decode(path: Path, timestamps: list[float], tolerance_s: float, backend: str | None = None) -> Any:
    import av
    import torch

    with av.open(str(path)) as container:
        frames = [(frame.time, frame.to_ndarray(format="rgb24")) for frame in container.decode(video=0)]
    found = []
    for moment in timestamps:
        shown, pixels = min(frames, key=lambda frame: abs(frame[0] - moment))
        assert abs(shown - moment) < tolerance_s, f"{path} has no frame at {moment} s"
        found.append(torch.from_numpy(pixels).permute(2, 0, 1).float() / 255)
    return torch.stack(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("reader", choices=["handeye", "lerobot"])
    parser.add_argument("root", type=Path)
    parser.add_argument("--pyav", action="store_true")
    asked = parser.parse_args()
    for number, prompt, arrays in (
        by_handeye(asked.root) if asked.reader == "handeye" else by_lerobot(asked.root, asked.pyav)
    ):
        for key, values in sorted(arrays.items()):
            digest = hashlib.sha256(np.ascontiguousarray(values).tobytes()).hexdigest()[:16]
            print(number, repr(prompt), key, values.dtype, values.shape, digest)  # noqa: T201


if __name__ == "__main__":
    main()
