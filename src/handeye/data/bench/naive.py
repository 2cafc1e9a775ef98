"""The benchmark's naive side, as a first loader is written with h5py and Pillow: each sample opens its file.

python -m handeye.data.bench.naive ROOT SIZE METHOD CHUNK
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import h5py
import numpy as np
from PIL import Image

from handeye.data.bench.side import serve
from handeye.data.source import open_source

FILTERS = {"area": "BOX", "bilinear": "BILINEAR", "bicubic": "BICUBIC", "lanczos": "LANCZOS"}


def main() -> None:
    root, method = Path(sys.argv[1]), Image.Resampling[FILTERS[sys.argv[3]]]
    size, chunk = int(sys.argv[2]), int(sys.argv[4])
    index = [
        (root / ref.where["file"], ref.where["demo"], t)
        for ref in open_source(root).episodes
        for t in range(ref.length)
    ]

    def sample(row: int) -> dict[str, np.ndarray]:
        path, name, t = index[row]
        with h5py.File(path, "r") as file:
            demo = file["data"][name]
            obs = demo["obs"]
            found = {
                ours: np.asarray(Image.fromarray(obs[theirs][t][::-1]).resize((size, size), method))
                for ours, theirs in (("agentview", "agentview_rgb"), ("wrist", "eye_in_hand_rgb"))
            }
            found["state"] = np.concatenate([obs["ee_states"][t], obs["gripper_states"][t]])
            actions = demo["actions"][t : t + chunk]
            found["actions"] = np.concatenate([actions, np.repeat(actions[-1:], chunk - len(actions), axis=0)])
        return found

    def take(rows: Sequence[int]) -> Mapping[str, np.ndarray]:
        samples = [sample(row) for row in rows]
        return {name: np.stack([one[name] for one in samples]) for name in samples[0]}

    serve(take)


if __name__ == "__main__":
    main()
