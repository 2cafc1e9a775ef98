"""The benchmark's side of the lerobot library, in an interpreter of its own: `PYTHON by_lerobot.py ROOT SIZE CHUNK`.

Its own data set and its own decoding of pictures, then PyTorch's antialiased resize and a stack. Of videos, its decoder
where torchcodec is installed; else the same work through PyAV, and it says so: the file is opened, sought to the key
frame before, decoded up to the frame (lerobot 0.4.4 datasets/video_utils.py, decode_video_frames_torchvision).
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from importlib import import_module
from pathlib import Path
from typing import Any


def main() -> None:
    serve = import_module("side").serve  # from this file's folder
    sys.path.pop(0)  # where nothing else is meant for other libraries
    root, size, chunk = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    torch = import_module("torch")
    torch.set_num_threads(1)
    _load_torchvision(torch)
    lerobot_dataset: Any = import_module("lerobot.datasets.lerobot_dataset")
    resize = torch.nn.functional.interpolate

    codec = importlib.util.find_spec("torchcodec")
    if codec is None:
        lerobot_dataset.decode_video_frames = _decode
    fps = lerobot_dataset.LeRobotDatasetMetadata("local/set", root=root).fps
    times = {"action": [step / fps for step in range(chunk)]}
    data = lerobot_dataset.LeRobotDataset("local/set", root=root, delta_timestamps=times)
    cameras = dict(zip(("agentview", "wrist"), data.meta.camera_keys, strict=True))

    def take(rows: Any) -> dict[str, Any]:
        items = [data[row] for row in rows]
        batch = {
            name: resize(torch.stack([item[key] for item in items]), (size, size), mode="bilinear", antialias=True)
            for name, key in cameras.items()
        }
        batch["state"] = torch.stack([item["observation.state"] for item in items])
        batch["actions"] = torch.stack([item["action"] for item in items])
        return {name: value.numpy() for name, value in batch.items()}

    decoder = (", torchcodec" if codec else ", PyAV") if data.meta.video_keys else ""
    serve(take, about="lerobot" + decoder)


def _decode(path: Path, timestamps: list[float], tolerance_s: float, backend: str | None = None) -> Any:
    torch = import_module("torch")
    (wanted,) = timestamps
    with import_module("av").open(str(path)) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        container.seek(int(wanted / stream.time_base), stream=stream)
        for frame in container.decode(stream):
            if abs(frame.time - wanted) < tolerance_s:
                return torch.from_numpy(frame.to_ndarray(format="rgb24")).permute(2, 0, 1)[None].float() / 255
    raise ValueError(f"{path} has no frame at {wanted} s")


def _load_torchvision(torch: Any) -> None:
    """Its wheel looks for compiled operators that are not there beside a CPU build of PyTorch; none is used here."""
    try:
        import_module("torchvision")
    except RuntimeError:
        for name in [name for name in sys.modules if name.startswith("torchvision")]:
            del sys.modules[name]
        library = torch.library.Library("torchvision", "DEF")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor d, Tensor s, float t) -> Tensor")
        really = torch.library.register_fake

        def register(name: Any, *more: Any, **named: Any) -> Any:
            ours = isinstance(name, str) and name.startswith("torchvision::")
            return (lambda function: function) if ours else really(name, *more, **named)

        torch.library.register_fake = register
        import_module("torchvision")


if __name__ == "__main__":
    main()
