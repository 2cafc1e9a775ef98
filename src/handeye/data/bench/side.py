"""How the benchmark's programs answer: one JSON line for each they are given. Needs nothing but NumPy."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np


def serve(take: Callable[[Sequence[int]], Mapping[str, Any]], about: str = "") -> None:
    """`take` makes a batch of these rows: images (B, H, W, 3) or (B, 3, H, W) and actions (B, T, 7). Asked to `show`,
    it is said what the first sample looks like, so that all sides can be compared. `about`: what to call this side."""
    print(json.dumps({"ready": True, "about": about}), flush=True)  # noqa: T201 - to the program that started this one
    for line in sys.stdin:
        request = json.loads(line)
        began = time.process_time(), time.perf_counter()
        batch = take(request["rows"])
        answer: dict[str, Any] = {"cpu": time.process_time() - began[0], "wall": time.perf_counter() - began[1]}
        if request.get("show"):
            answer["actions"] = np.asarray(batch["actions"])[0].astype(float).round(5).tolist()
            answer["means"] = [_mean(np.asarray(batch[name])[0]) for name in ("agentview", "wrist")]
        print(json.dumps(answer), flush=True)  # noqa: T201 - to the program that started this one


def _mean(picture: np.ndarray) -> float:
    """In grey levels."""
    return round(float(picture.mean()) * (255 if picture.dtype.kind == "f" else 1), 3)
