"""Dots and arrows on pictures, in colours that nothing in the scene has."""

from __future__ import annotations

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw

COLOURS = {
    "red": (255, 0, 0),
    "green": (0, 255, 0),
    "blue": (0, 0, 255),
    "yellow": (255, 255, 0),
    "purple": (255, 0, 255),
    "orange": (255, 128, 0),
}
Pixel = tuple[float, float]


def radius(size: int) -> float:
    return max(2.5, size / 56)


def dot(picture: UInt8[np.ndarray, "H W 3"], pixel: Pixel, colour: str) -> UInt8[np.ndarray, "H W 3"]:
    """With a dark rim."""
    image, r = Image.fromarray(picture), radius(len(picture))
    (x, y), draw = pixel, ImageDraw.Draw(image)
    draw.ellipse((x - r - 1, y - r - 1, x + r + 1, y + r + 1), fill=(0, 0, 0))
    draw.ellipse((x - r, y - r, x + r, y + r), fill=COLOURS[colour])
    return np.asarray(image)


def arrow(picture: UInt8[np.ndarray, "H W 3"], tail: Pixel, tip: Pixel, colour: str) -> UInt8[np.ndarray, "H W 3"]:
    """From `tail` to `tip`, where its head ends."""
    image, (start, end) = Image.fromarray(picture), np.array([tail, tip])
    along = (end - start) / max(float(np.linalg.norm(end - start)), 1e-9)
    across, head, width = np.array([-along[1], along[0]]), len(picture) / 28, max(2, round(len(picture) / 75))
    draw = ImageDraw.Draw(image)
    draw.line([tuple(start), tuple(end - along * head * 0.8)], fill=COLOURS[colour], width=width)
    corners = (end, end - along * head + across * head * 0.5, end - along * head - across * head * 0.5)
    draw.polygon([(float(x), float(y)) for x, y in corners], fill=COLOURS[colour])
    return np.asarray(image)
