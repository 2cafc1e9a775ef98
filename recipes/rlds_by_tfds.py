"""Does TFDS read the same numbers and pixels from an RLDS set as handeye does? One line per array, for `diff`.

    python recipes/rlds_by_tfds.py handeye DIR > ours.txt
    python recipes/rlds_by_tfds.py tfds DIR > theirs.txt      # with tensorflow-cpu and tensorflow-datasets
    diff ours.txt theirs.txt && wc -l ours.txt

The two need not live in one environment.
"""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

Arrays = dict[str, np.ndarray]


def by_handeye(root: Path) -> Iterator[tuple[str, str, Arrays]]:
    from handeye.data.rlds.source import RldsSource

    for folder in sorted(path.parent for path in root.rglob("dataset_info.json")):
        source = RldsSource(folder)
        for ref in source.episodes:
            episode = source.load(ref)
            images = {camera: frames[:, :, ::-1] for camera, frames in episode.images.items()}
            vectors = {"action": episode.actions, "state": episode.proprio, "joint_state": episode.joints}
            yield ref.id, ref.prompt, {**images, **{k: v for k, v in vectors.items() if v is not None}}


def by_tfds(root: Path) -> Iterator[tuple[str, str, Arrays]]:
    import tensorflow_datasets as tfds

    for folder in sorted(path.parent for path in root.rglob("dataset_info.json")):
        builder = tfds.builder_from_directory(str(folder))
        for number, episode in enumerate(tfds.as_numpy(builder.as_dataset(split="train"))):
            steps = list(episode["steps"])
            file = Path(episode["episode_metadata"]["file_path"].decode()).name.removesuffix("_demo.hdf5")
            seen = {name: np.stack([s["observation"][name] for s in steps]) for name in steps[0]["observation"]}
            images = {"agentview": seen.pop("image")}
            if "wrist_image" in seen:
                images["wrist"] = seen.pop("wrist_image")
            arrays = {**images, "action": np.stack([s["action"] for s in steps]), **seen}
            (prompt,) = {step["language_instruction"].decode() for step in steps}
            yield f"{builder.info.name}/{file}/train_{number}", prompt, arrays


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("reader", choices=["handeye", "tfds"])
    parser.add_argument("root", type=Path)
    asked = parser.parse_args()
    for name, prompt, arrays in (by_handeye if asked.reader == "handeye" else by_tfds)(asked.root):
        for key, values in sorted(arrays.items()):
            digest = hashlib.sha256(np.ascontiguousarray(values).tobytes()).hexdigest()[:16]
            print(name, repr(prompt), key, values.dtype, values.shape, digest)  # noqa: T201


if __name__ == "__main__":
    main()
