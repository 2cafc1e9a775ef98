"""features.json and dataset_info.json as TFDS writes them for openvla/modified_libero_rlds, key for key."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from handeye.data.rlds.features import IMAGES, WIDTHS

VERSION = "1.0.0"

_PACKAGE = "tensorflow_datasets.core.features."
_TITLES = {"agentview": "Main camera RGB observation.", "wrist": "Wrist camera RGB observation."}


def features_json(sizes: Mapping[str, tuple[int, int]], *, joints: bool) -> dict[str, Any]:
    """`sizes`: camera -> height and width. The order is that of the features in a record."""
    images = {name.rpartition("/")[2]: _image(*sizes[c], _TITLES[c]) for c, name in IMAGES.items() if c in sizes}
    vectors = {"state": _tensor("Robot EEF state (6D pose, 2D gripper).", width=8)}
    if joints:
        vectors["joint_state"] = _tensor("Robot joint angles.", width=7)
    step = {
        "observation": _dict({**images, **vectors}),
        "action": _tensor("Robot EEF action.", width=WIDTHS["steps/action"]),
        "discount": _tensor("Discount if provided, default to 1."),
        "reward": _tensor("Reward if provided, 1 on final step for demos."),
        "is_first": _tensor("True on first step of the episode.", dtype="bool"),
        "is_last": _tensor("True on last step of the episode.", dtype="bool"),
        "is_terminal": _tensor(
            "True on last step of the episode if it is a terminal step, True for demos.", dtype="bool"
        ),
        "language_instruction": _text("Language Instruction."),
    }
    steps = {
        "pythonClassName": _PACKAGE + "dataset_feature.Dataset",
        "sequence": {"feature": _dict(step), "length": "-1"},
    }
    return _dict({"steps": steps, "episode_metadata": _dict({"file_path": _text("Path to the original data file.")})})


def info_json(name: str, shard_lengths: Sequence[int], num_bytes: int) -> dict[str, Any]:
    """Of a set with the split `train` alone. Protobuf's JSON holds 64-bit integers as strings."""
    return {
        "description": "Demonstrations in the layout of openvla/modified_libero_rlds.",
        "fileFormat": "tfrecord",
        "name": name,
        "releaseNotes": {VERSION: "Initial release."},
        "splits": [
            {
                "filepathTemplate": "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}",
                "name": "train",
                "numBytes": str(num_bytes),
                "shardLengths": [str(length) for length in shard_lengths],
            }
        ],
        "version": VERSION,
    }


def _dict(features: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "pythonClassName": _PACKAGE + "features_dict.FeaturesDict",
        "featuresDict": {"features": dict(features)},
    }


def _image(height: int, width: int, title: str) -> dict[str, Any]:
    shape = {"dimensions": [str(height), str(width), "3"]}
    return {
        "pythonClassName": _PACKAGE + "image_feature.Image",
        "image": {"shape": shape, "dtype": "uint8", "encodingFormat": "jpeg"},
        "description": title,
    }


def _tensor(title: str, *, width: int | None = None, dtype: str = "float32") -> dict[str, Any]:
    """Without a width: a scalar."""
    return {
        "pythonClassName": _PACKAGE + ("scalar.Scalar" if width is None else "tensor_feature.Tensor"),
        "tensor": {
            "shape": {} if width is None else {"dimensions": [str(width)]},
            "dtype": dtype,
            "encoding": "none",
        },
        "description": title,
    }


def _text(title: str) -> dict[str, Any]:
    return {"pythonClassName": _PACKAGE + "text_feature.Text", "text": {}, "description": title}
