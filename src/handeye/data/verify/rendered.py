"""Pictures against a rendering of the same state: the surest word on which way up they are, where it can be had."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
from jaxtyping import Float, UInt8

from handeye.data.hdf5.source import Hdf5Source
from handeye.data.source import EpisodeRef, Source
from handeye.data.verify.findings import Finding
from handeye.data.verify.picture import TURNS
from handeye.errors import UserError

TASKS = 10
"""Of which a picture is compared; more would not say more."""

STEP = 10
"""The arm has left its rest, so that nothing is symmetric."""

CLEAR = 1.5
"""How many times further away the second best way round must be."""

LIKE = 12.0
"""Grey levels of mean difference up to which a picture shows the rendered scene: other textures or fixtures change a
part of it, another scene all of it."""


def findings(source: Source, *, suite: str | None) -> list[Finding]:
    """Nothing for formats without states; a note where the simulator is not there or the task not known."""
    if not isinstance(source, Hdf5Source):
        return []
    try:
        compared = list(_pairs(source, suite))
    except UserError as error:
        return [Finding(check="rendering", verdict="note", found=f"not compared: {error.what} {error.why}".strip())]
    return [_verdict(camera, [(there[camera], here[camera]) for there, here in compared]) for camera in compared[0][0]]


def _verdict(camera: str, pairs: list[tuple[np.ndarray, np.ndarray]]) -> Finding:
    check = f"rendering {camera}"
    distance = {
        way: float(np.mean([np.abs(_turned(there, *how) - here).mean() for there, here in pairs]))
        for way, how in TURNS.items()
    }
    best, second = sorted(distance, key=distance.__getitem__)[:2]
    evidence = {"mean_difference": distance, "pictures": len(pairs)}
    said = f"{distance[best]:.1f} of 255 from a rendering of the same state; next best way round {distance[second]:.1f}"
    if distance[best] > LIKE or distance[second] < CLEAR * distance[best]:
        found = f"{said}: too little to tell, or another scene"
        return Finding(check=check, verdict="note", found=found, evidence=evidence)
    if best == "as declared":
        return Finding(check=check, verdict="ok", found=said, evidence=evidence)
    return Finding(
        check=check,
        verdict="fail",
        found=f"as declared {distance['as declared']:.1f} of 255 from a rendering of the same state; "
        f"{distance[best]:.1f} if the pictures are {best}",
        fix="the set was turned once too often or too seldom: convert it again, or fetch another copy",
        evidence=evidence,
    )


def _pairs(
    source: Hdf5Source, suite: str | None
) -> Iterator[tuple[Mapping[str, UInt8[np.ndarray, "H W 3"]], Mapping[str, UInt8[np.ndarray, "H W 3"]]]]:
    """(recorded, rendered) of one step of the first episode of each task."""
    try:
        from handeye.data.replay.play import begin
        from handeye.data.replay.run import Stage
        from handeye.data.replay.start import start_of
        from handeye.sim.config import SimConfig
    except ModuleNotFoundError as error:
        raise UserError(f"The simulator is not installed ({error.name}).", fix="pip install 'handeye[sim]'") from None
    if source.specs.image.height != source.specs.image.width:
        raise UserError("The pictures are not square.", fix="the simulator renders square ones")
    stage = Stage(SimConfig(camera_size=source.specs.image.height))
    for ref in _one_per_task(source):
        step = min(STEP, ref.length - 1)
        start = start_of(source, ref, suite=suite)
        env = stage.of(start.task)
        begin(env, start)
        states = source.load(ref, images=False).states
        assert states is not None
        env.set_state(np.asarray(states[step], np.float64))
        yield {name: frames[0] for name, frames in source.frames(ref, [step]).items()}, env.observe().images


def _one_per_task(source: Source) -> list[EpisodeRef]:
    first = {ref.task: ref for ref in reversed(source.episodes)}
    return sorted(first.values(), key=source.episodes.index)[:TASKS]


def _turned(
    picture: UInt8[np.ndarray, "H W 3"], swapped: bool, rows: bool, columns: bool
) -> Float[np.ndarray, "h w 3"]:
    turned = picture.astype(np.float32)
    turned = turned.swapaxes(0, 1) if swapped else turned
    return turned[:: -1 if rows else 1, :: -1 if columns else 1]
