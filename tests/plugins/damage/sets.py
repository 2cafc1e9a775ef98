"""Sound, small files of every format that a reader takes, made from nothing. The same bytes each time."""

from __future__ import annotations

import io
import json
import pickle
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, Literal

import h5py
import numpy as np

from handeye.conventions.image import Orientation, convert
from handeye.data.config import ConvertConfig
from handeye.data.hdf5.demo import DemoRecord, TaskHeader, record
from handeye.data.hdf5.write import write_task_file
from handeye.data.pictures import encode_jpeg, encode_png
from handeye.sim import init_states

SIZE = 16
"""Height and width of pictures: small, so that damage meets what describes them as often as it meets pixels."""

VIDEO_SIZE = 32


def demo(steps: int, seed: int, size: int = SIZE) -> DemoRecord:
    """The arm's joints are those of the states; pictures are smooth enough to be small."""
    rng = np.random.default_rng(seed)
    states = rng.normal(size=(steps, 20))
    small = rng.integers(0, 256, (2, steps, size // 8, size // 8, 3), dtype=np.uint8)
    images = dict(zip(("agentview", "wrist"), small.repeat(8, 2).repeat(8, 3), strict=True))
    return record(
        actions=rng.uniform(-1, 1, (steps, 7)),
        states=states,
        images=images,
        robot_states=np.concatenate([rng.normal(size=(steps, 5)), np.full((steps, 4), 0.5)], axis=1),
        joint_states=states[:, 1:8],
        model_file="<mujoco><worldbody/></mujoco>",
        info={"seed": seed},
    )


def header(sentence: str) -> TaskHeader:
    return TaskHeader(
        name=sentence.replace(" ", "_"),
        language=sentence,
        env_name="Libero_Tabletop_Manipulation",
        problem_name="libero_tabletop_manipulation",
        bddl_file="libero_goal/x.bddl",
        bddl_text="(define)",
        env_args={"camera_heights": SIZE},
    )


def ours(root: Path, size: int = SIZE) -> None:
    """As `handeye demos` writes it: gzip."""
    for number, sentence in enumerate(("open the drawer", "push the button")):
        told = header(sentence)
        write_task_file(root / f"{told.name}_demo.hdf5", told, [demo(4 + k, 10 * number + k, size) for k in range(2)])


def published(root: Path, *, raw: bool, libver: str = "earliest", compression: str | None = None) -> None:
    """As LIBERO's script wrote it (observed after each action, with attributes) or the regenerating one (before it,
    without). Not compressed, unless it is asked for; then with attributes of every type besides."""
    root.mkdir(parents=True, exist_ok=True)
    with h5py.File(root / "open_the_drawer_demo.hdf5", "w", libver=libver) as file:
        data = file.create_group("data")
        if raw:
            _libero_attributes(data)
        if compression:
            _other_attributes(data)
        for number in range(2):
            found = demo(5 + number, number)
            group = data.create_group(f"demo_{number}")
            _arrays(group, found, seen=slice(1, None) if raw else slice(0, -1), compression=compression)
            if raw:
                group.attrs["num_samples"] = len(found) - 1
                group.attrs["model_file"] = found.model_file
                group.attrs["init_state"] = found.states[0]


def _libero_attributes(data: h5py.Group) -> None:
    language = {"problem_name": "x", "domain_name": "robosuite", "language_instruction": ["open the drawer"]}
    args = {"type": 1, "env_name": "x", "problem_name": "x", "bddl_file": "x.bddl", "env_kwargs": {"control_freq": 20}}
    data.attrs["env_name"] = "Libero_Tabletop_Manipulation"
    data.attrs["problem_info"] = json.dumps(language)
    data.attrs["macros_image_convention"] = "opengl"
    data.attrs["bddl_file_name"] = "x.bddl"
    data.attrs["env_args"] = json.dumps(args)
    data.attrs["num_demos"], data.attrs["total"], data.attrs["tag"] = 2, 9, "libero-v1"


def _other_attributes(data: h5py.Group) -> None:
    """Nobody asks for these, and the library reads them all the same."""
    data.attrs["flag"], data.attrs["fixed"], data.attrs["place"] = True, np.bytes_("words"), data.ref
    data.attrs["words"] = ["some", "more", "words"]
    data.attrs["grid"] = np.arange(6.0).reshape(2, 3)
    data.attrs["pair"] = np.array([(1, 2.0, b"x")], [("a", "i4"), ("b", "f8", 2), ("c", "S3")])
    data.attrs.create("ragged", [np.arange(3), np.arange(2)], (2,), h5py.vlen_dtype(np.int64))


def _arrays(group: h5py.Group, found: DemoRecord, *, seen: slice, compression: str | None) -> None:
    rows = len(found) - 1
    assert found.states is not None and found.joint_states is not None
    group["actions"], group["states"] = found.actions[:rows], found.states[:rows]
    group["robot_states"], group["rewards"], group["dones"] = (
        found.robot_states[seen],
        np.eye(rows)[-1],
        np.eye(rows)[-1],
    )
    obs = group.create_group("obs")
    obs["joint_states"], obs["ee_states"] = found.joint_states[seen], found.ee_states[seen]
    obs["ee_pos"], obs["ee_ori"] = found.ee_states[seen, :3], found.ee_states[seen, 3:]
    obs["gripper_states"] = found.gripper_states[seen]
    for ours, name in {"agentview": "agentview_rgb", "wrist": "eye_in_hand_rgb"}.items():
        stored = convert(found.images[ours][seen], source=Orientation.UPRIGHT, target=Orientation.OPENGL)
        chunks = (2, 8, SIZE, 3) if compression else None
        obs.create_dataset(name, data=stored, compression=compression, chunks=chunks)


def converted(root: Path, to: Literal["rlds", "lerobot"], **options: Any) -> None:
    from handeye.data.convert.run import run

    source = root.with_name(f"{root.name}-source")
    ours(source, VIDEO_SIZE if options.get("lerobot_images", "png") != "png" else SIZE)
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        run(ConvertConfig(root=source, target=root, to=to, workers=1, **options))


def xvr(root: Path) -> None:
    """Pictures 0 to 3 are files, 4 and 5 members of a tar."""
    (root / "images").mkdir(parents=True)
    pictures = [encode_png(noise(number, (6, 8))) for number in range(6)]
    for number in range(4):
        (root / f"images/img_{number}.png").write_bytes(pictures[number])
    shards = root / "image_shards"
    shards.mkdir()
    tar(shards / "images_000.tar", {f"images/img_{number}.png": pictures[number] for number in (4, 5)})
    lines = []
    for number in range(6):
        shown = [number, (number + 1) % 6]
        blocks: list[dict[str, Any]] = [{"type": "text", "text": "Look.\n", "image_url": None}]
        blocks += [{"type": "image_url", "image_url": {"url": f"images/img_{n}.png"}} for n in shown]
        blocks.append({"type": "text", "text": "\nWhich one?"})
        said = {"sample_id": f"q{number}", "task": "task6", "prompt_blocks": blocks, "ground_truth_answer": "Red"}
        lines.append(json.dumps(said))
    (root / "train.jsonl").write_text("\n".join(lines) + "\n")


def noise(seed: int, size: tuple[int, int] = (SIZE, SIZE)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)


MEMBERS: Mapping[str, bytes] = {
    "a.txt": b"words, words, words\n" * 40,
    "folder/b.bin": bytes(range(256)) * 3,
    "folder/deeper/" + "long_name_" * 12 + "c.xml": b"<x/>",
}


def zipped(path: Path, members: Mapping[str, bytes] = MEMBERS) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)


def tar(path: Path, members: Mapping[str, bytes] = MEMBERS, mode: str = "w") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w") as archive:
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    packed: dict[str, Callable[[bytes], bytes]] = {"w": bytes, "w:gz": _gzip, "w:bz2": _bz2, "w:xz": _xz}
    path.write_bytes(packed[mode](plain.getvalue()))


def _gzip(content: bytes) -> bytes:
    import gzip

    return gzip.compress(content, mtime=0)


def _bz2(content: bytes) -> bytes:
    import bz2

    return bz2.compress(content)


def _xz(content: bytes) -> bytes:
    import lzma

    return lzma.compress(content)


def initial_states(path: Path, layout: Literal["plain", "zip", "legacy", "npz"]) -> None:
    """A torch pickle of today, of before 1.6, a bare one, and what is kept of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    states = np.random.default_rng(0).normal(size=(3, 5))
    pickled = pickle.dumps(states, protocol=2)
    if layout == "npz":
        init_states.save(path, states)
    elif layout == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in {"archive/data.pkl": pickled, "archive/version": b"3\n"}.items():
                archive.writestr(zipfile.ZipInfo(name), content)
    elif layout == "legacy":
        facts = (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})
        path.write_bytes(b"".join(pickle.dumps(fact, protocol=2) for fact in facts) + pickled + pickle.dumps([]))
    else:
        path.write_bytes(pickled)


def safetensors(path: Path) -> None:
    from safetensors.numpy import save

    rng = np.random.default_rng(0)
    tensors = {"a.weight": rng.normal(size=(4, 3)).astype("f4"), "b": rng.integers(0, 9, 5), "c": np.float16(1)[None]}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(save(tensors, {"format": "pt"}))


def torch_file(path: Path) -> None:
    import torch

    path.parent.mkdir(parents=True, exist_ok=True)
    state = {"model": {"a": torch.arange(12.0).reshape(3, 4), "b": torch.zeros(2, dtype=torch.bfloat16)}, "step": 3}
    torch.save(state, path)


def statistics(path: Path) -> None:
    """OpenVLA's file."""
    from handeye.data.statistics import measure

    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    found = measure([(rng.normal(size=(9, 7)), rng.normal(size=(9, 8))) for _ in range(2)]).to_json()
    path.write_text(json.dumps({"libero_goal": {**found, "action": {**found["action"], "mask": [True] * 6 + [False]}}}))


def norm_stats(path: Path) -> None:
    """openpi's file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    row = {name: [0.0 + k, 1.0 + k] for k, name in enumerate(("mean", "std", "q01", "q99"))}
    path.write_text(json.dumps({"norm_stats": {"state": row, "actions": row}}))


def picture(path: Path, codec: Literal["jpeg", "png"]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes((encode_jpeg if codec == "jpeg" else encode_png)(noise(0)))
