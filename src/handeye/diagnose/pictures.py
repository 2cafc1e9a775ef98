"""What the policy saw, as a sheet: demonstrations above, the simulator below, as given and as its model gets it."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from handeye.data.pipeline.item import IMAGE
from handeye.data.pipeline.pipeline import Pipeline
from handeye.records import write_bytes
from handeye.types import Observation

CELL = 160
"""Pixels of a picture on the sheet."""

COLUMNS = 6
LINE, MARGIN = 18, 8


def write(
    path: Path, rows: Sequence[tuple[str, Sequence[Observation]]], cameras: Sequence[str], pipeline: Pipeline | None
) -> None:
    """Each row: where the observations are from. Beside each other, evenly spaced."""
    sheets = []
    for title, seen in rows:
        places = np.linspace(0, len(seen) - 1, min(COLUMNS, len(seen))).round().astype(int)
        chosen = [seen[place] for place in np.unique(places)]
        for camera in cameras:
            sheets.append((f"{title}: {camera}", [each.images[camera] for each in chosen]))
            if pipeline is not None:
                sheets.append((f"{title}: {camera}, as the model gets it", [_got(pipeline, e, camera) for e in chosen]))
    width = MARGIN + COLUMNS * (CELL + MARGIN)
    sheet = Image.new("RGB", (width, MARGIN + len(sheets) * (CELL + LINE + MARGIN)), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(13)
    for row, (title, frames) in enumerate(sheets):
        top = MARGIN + row * (CELL + LINE + MARGIN)
        draw.text((MARGIN, top), title, "black", font=font)
        for column, pixels in enumerate(frames):
            picture = Image.fromarray(pixels).resize((CELL, CELL), Image.Resampling.NEAREST)
            sheet.paste(picture, (MARGIN + column * (CELL + MARGIN), top + LINE))
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG")
    write_bytes(path, buffer.getvalue())


def _got(pipeline: Pipeline, observation: Observation, camera: str) -> np.ndarray:
    """Floats are stretched to what can be shown; of several towers' channels, the first three."""
    found = pipeline.encode(observation).get(IMAGE + camera)
    if found is None:
        return np.zeros((8, 8, 3), np.uint8)
    pixels = np.asarray(found)[..., :3]
    if pixels.dtype == np.uint8:
        return np.ascontiguousarray(pixels)
    low, high = float(pixels.min()), float(pixels.max())
    return np.asarray(np.rint((pixels - low) / max(high - low, 1e-9) * 255), np.uint8)
