"""The benchmark's side of handeye: `python -m handeye.data.bench.ours ROOT WAY CACHE SIZE METHOD CHUNK AUGMENT`."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from handeye.data.bench.side import serve
from handeye.data.loading.batches import Part, make
from handeye.data.loading.demonstrations import Demonstrations
from handeye.data.loading.samples import Samples
from handeye.data.pipeline.pipeline import standard_pipeline
from handeye.data.pipeline.steps import JitterColours, ShiftImages


def main() -> None:
    root, way, cache, size, method, chunk, augment = sys.argv[1:]
    demos = Demonstrations(Path(root))
    pipeline = standard_pipeline(
        demos.specs,
        demos.statistics(),
        image_size=int(size),
        prompt_length=128,
        method=method,  # type: ignore[arg-type]
        action="bounds",  # nothing is clipped, so that what comes back is what was demonstrated
        augment=(ShiftImages(1), JitterColours(0.1, 0.15, 0.05)) if augment == "augment" else (),
    )
    samples = Samples(demos, pipeline, int(chunk), frames=way, memory_gb=8.0, cache=Path(cache))  # type: ignore[arg-type]

    def take(rows: Sequence[int]) -> Mapping[str, np.ndarray]:
        numbers = np.asarray(rows)
        batch = make(samples, 0, Part(numbers, numbers))
        shown = {name.removeprefix("image."): value for name, value in batch.items()}
        return {**shown, "actions": pipeline.decode(batch["actions"])}

    serve(take)


if __name__ == "__main__":
    main()
