"""`handeye data show`: one demonstration as a contact sheet with its actions under it, and as a video."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw, ImageFont

from handeye.console import say
from handeye.data.config import ShowConfig
from handeye.data.source import EpisodeRef, Source, open_source
from handeye.errors import UserError, unknown
from handeye.film import encode
from handeye.records import write_bytes
from handeye.types import Episode

CELL = 160
"""Pixels of a picture on the sheet."""

MARGIN = 12
LINE = 18
PLOT = 300
COLOURS = ("#c0392b", "#27ae60", "#2471a3", "#d68910", "#7d3c98", "#117a65", "#1c2833")
NAMES = ("x", "y", "z", "turn x", "turn y", "turn z", "gripper")


def run(config: ShowConfig) -> tuple[Path, Path]:
    """The sheet's and the video's path."""
    source = open_source(config.root)
    ref = find(source, config.episode)
    episode = source.load(ref)
    folder = config.out or Path("shown")
    name = re.sub(r"[^A-Za-z0-9_.-]+", "-", ref.id)
    sheet, film = folder / f"{name}.png", folder / f"{name}.mp4"
    buffer = io.BytesIO()
    contact_sheet(episode, columns=config.columns).save(buffer, "PNG")
    write_bytes(sheet, buffer.getvalue())
    hz = source.specs.action.hz
    write_bytes(film, encode(side_by_side(episode), frames_per_second=round(hz)))
    say(f"{ref.id}: {ref.prompt!r}, {len(episode)} steps at {hz:g} Hz")
    say(f"{sheet}\n{film}")
    return sheet, film


def find(source: Source, name: str) -> EpisodeRef:
    """By id, or by number in the set's order."""
    by_id = {ref.id: ref for ref in source.episodes}
    if name in by_id:
        return by_id[name]
    if not name.isdecimal():
        raise unknown("episode", name, by_id, fix="`handeye data index` lists them; a number works too")
    if int(name) >= len(source.episodes):
        raise UserError(
            f"There is no episode {name}.",
            why=f"{source.root} has {len(source.episodes)}, 0 to {len(source.episodes) - 1}",
            fix="choose one of these",
        )
    return source.episodes[int(name)]


def side_by_side(episode: Episode) -> list[UInt8[np.ndarray, "H W 3"]]:
    """The cameras of each step next to each other."""
    return [np.concatenate([frames[i] for frames in episode.images.values()], axis=1) for i in range(len(episode))]


def contact_sheet(episode: Episode, *, columns: int) -> Image.Image:
    """Evenly spaced steps, the first and the last among them; one row per camera; every action dimension below."""
    steps = np.unique(np.linspace(0, len(episode) - 1, columns).round().astype(int))
    width = MARGIN + len(steps) * (CELL + MARGIN)
    top = 2 * LINE + MARGIN
    height = top + len(episode.images) * (CELL + LINE) + PLOT + 2 * MARGIN
    sheet = Image.new("RGB", (width, height), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(13)
    ended = {True: "ends in success", False: "does not end in success", None: "success is not recorded"}[
        episode.success
    ]
    draw.text((MARGIN, MARGIN // 2), episode.prompt, "black", ImageFont.load_default(16))
    draw.text((MARGIN, MARGIN // 2 + LINE + 2), f"{episode.id}, {len(episode)} steps, {ended}", "#555", font)
    for row, (camera, frames) in enumerate(episode.images.items()):
        y = top + row * (CELL + LINE)
        for column, step in enumerate(steps):
            x = MARGIN + column * (CELL + MARGIN)
            sheet.paste(Image.fromarray(frames[step]).resize((CELL, CELL), Image.Resampling.BICUBIC), (x, y))
            draw.text((x, y + CELL + 1), f"{camera} {step}" if column == 0 else str(step), "#555", font)
    box = (MARGIN + 30, top + len(episode.images) * (CELL + LINE) + LINE, width - MARGIN, height - MARGIN)
    _plot(draw, font, box, episode.actions, steps)
    return sheet


def _plot(
    draw: ImageDraw.ImageDraw,
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
    box: tuple[int, int, int, int],
    actions: Float[np.ndarray, "N A"],
    steps: Sequence[int] | np.ndarray,
) -> None:
    """Every dimension over the steps, on a scale of -1 to 1; a thin line at each step that is shown above."""
    left, top, right, bottom = box
    legend = LINE
    low, high = min(-1.0, float(actions.min())), max(1.0, float(actions.max()))

    def at(step: float, value: float) -> tuple[float, float]:
        x = left + (right - left) * step / max(1, len(actions) - 1)
        return x, bottom - (bottom - top - legend) * (value - low) / (high - low)

    for step in steps:
        draw.line([at(float(step), low), at(float(step), high)], "#eee")
    for value in (-1.0, 0.0, 1.0):
        draw.line([at(0.0, value), at(float(len(actions) - 1), value)], "#bbb")
        draw.text((left - 28, at(0.0, value)[1] - 8), f"{value:+.0f}" if value else " 0", "#555", font)
    for dimension in range(actions.shape[1]):
        colour = COLOURS[dimension % len(COLOURS)]
        points = [at(float(step), float(value)) for step, value in enumerate(actions[:, dimension])]
        draw.line(points if len(points) > 1 else points * 2, colour, width=2)
        name = NAMES[dimension] if actions.shape[1] == len(NAMES) else str(dimension)
        x = left + 90 * dimension
        draw.line([(x, top + 8), (x + 14, top + 8)], colour, width=3)
        draw.text((x + 19, top), name, colour, font)
