"""Colour operations as the libraries define them that published policies were trained with. Images are single
precision in [0, 1]; nothing is clipped here, and nothing is drawn at random.

Equality with TensorFlow: brightness and contrast to the bit, saturation and hue within 3e-7, so that levels (uint8)
agree.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float32

Image = Float32[np.ndarray, "H W 3"]
Plane = Float32[np.ndarray, "H W"]
F = np.float32


# ---- TensorFlow ------------------------------------------------------------------------------------------------------


def brightness(image: Image, delta: float) -> Image:
    """tf.image.adjust_brightness."""
    return image + F(delta)


def contrast(image: Image, factor: float) -> Image:
    """tf.image.adjust_contrast: each channel about its own mean."""
    mean = _mean(image.reshape(-1, 3))
    return (image - mean) * F(factor) + mean


def saturation(image: Image, factor: float) -> Image:
    """tf.image.adjust_saturation: S of HSV times `factor`, at most 1."""
    red, green, blue = _planes(image)
    value = np.maximum(np.maximum(red, green), blue)
    spread = value - np.minimum(np.minimum(red, green), blue)
    grey = spread <= 0
    norm = F(1) / (F(6) * np.where(grey, F(1), spread))
    hue = np.where(
        red == value,
        norm * (green - blue),
        np.where(green == value, norm * (blue - red) + F(2 / 6), norm * (red - green) + F(4 / 6)),
    )
    hue = np.where(hue < 0, hue + F(1), hue)
    share = spread / np.where(value > 0, value, F(1))
    chroma = np.clip(share * F(factor), 0, 1) * value
    sixth = np.where(grey, F(0), hue) * F(6)
    cross = chroma * (F(1) - np.abs(sixth - F(2) * np.floor(sixth / F(2)) - F(1)))
    zero = np.zeros_like(chroma)
    return _by_sixth(sixth, chroma, cross, cross, zero) + (value - chroma)[..., None]


def hue(image: Image, delta: float) -> Image:
    """tf.image.adjust_hue: the hue moves by `delta` turns, the greatest and the least channel keep their values."""
    red, green, blue = _planes(image)
    high = np.maximum(np.maximum(red, green), blue)
    low = np.minimum(np.minimum(red, green), blue)
    middle = np.where(
        red < green,
        np.where(blue < red, red, np.where(blue > green, green, blue)),
        np.where(blue < green, green, np.where(blue > red, red, blue)),
    )
    part = np.where(
        red < green,
        np.where(blue < red, np.int8(1), np.where(blue > green, np.int8(3), np.int8(2))),
        np.where(blue < green, np.int8(0), np.where(blue > red, np.int8(4), np.int8(5))),
    )
    spread = high - low
    grey = spread == 0
    ratio = (middle - low) / np.where(grey, F(1), spread)
    turned = np.where(grey, F(0), part.astype(F) + np.where(part & 1, F(1) - ratio, ratio)) + F(delta) * F(6)
    turned = np.where(turned < 0, turned + F(6), turned)
    turned = np.where(turned >= 6, turned - F(6), turned)
    ratio = turned - np.floor(turned)
    rising, falling = low + ratio * spread, low + (F(1) - ratio) * spread
    return _by_sixth(turned, high, rising, falling, low)


# ---- augmax, which openpi trains with --------------------------------------------------------------------------------


def jitter(image: Image, *, value: float, slant: float, turn: float) -> Image:
    """augmax's ColorJitter (augmax colorspace.py): V of HSV towards 1 (`value` above 0) or 0 (below) by that share,
    then along a contrast curve through the middle (`slant` in (-1, 1)), and the hue moved by `turn` turns."""
    red, green, blue = _planes(image)
    bright = np.maximum(np.maximum(red, green), blue)
    spread = bright - np.minimum(np.minimum(red, green), blue)
    first = np.where((red >= green) & (red >= blue), 0, np.where(green >= blue, 1, 2))
    change = np.choose(first, [green - blue, blue - red, red - green])
    hue = np.where(spread == 0, F(0), (2 * first + change / np.where(spread == 0, F(1), spread)) / 6).astype(F)
    share = spread / np.where(bright == 0, F(1), bright)
    bright = bright * F(1 + value) if value < 0 else bright * F(1 - value) + F(value)
    bright = _curve(bright, slant)
    angle = (hue + F(turn)) * F(6)
    out = np.empty_like(image)
    for channel, start in enumerate((5, 3, 1)):
        place = np.mod(F(start) + angle, F(6))
        out[..., channel] = bright - bright * share * np.clip(np.minimum(place, F(4) - place), 0, 1)
    return out


def _curve(x: Plane, amount: float) -> Plane:
    """Three straight pieces: steep (or flat) in the middle, its inverse slope at both ends."""
    slope = np.tan(F(amount + 1) * F(np.pi / 4))
    if slope == 1:
        return x
    knee = (slope - slope**2) / (2 * (1 - slope**2))
    middle = slope * (x - F(0.5)) + F(0.5)
    return np.where(x < knee, x / slope, np.where(x > 1 - knee, x / slope + F(1) - F(1) / slope, middle))


# ---- shared ----------------------------------------------------------------------------------------------------------


def _planes(image: Image) -> Sequence[Plane]:
    return [np.ascontiguousarray(image[..., channel]) for channel in range(3)]


def _by_sixth(sixth: Plane, most: Plane, rising: Plane, falling: Plane, least: Plane) -> Image:
    """Red, green and blue from the part of the colour circle: 0 red to yellow, 1 yellow to green, and so on. In even
    parts the channel between the greatest and the least is `rising`, in odd ones `falling`."""
    part = np.minimum(sixth.astype(np.int8), np.int8(5))
    middle = np.where(part & 1, falling, rising)
    out = np.empty((*part.shape, 3), F)
    for channel in range(3):
        place = (part + 6 - 2 * channel) % 6  # of six: greatest, middle, least, least, middle, greatest
        ends = np.where((place == 0) | (place == 5), most, least)
        out[..., channel] = np.where((place == 1) | (place == 4), middle, ends)
    return out


def _mean(rows: Float32[np.ndarray, "n 3"]) -> Float32[np.ndarray, "3"]:
    """TensorFlow's: the second half is added to the first until one row is left (adjust_contrast_op.cc)."""
    count = len(rows)
    while len(rows) > 1:
        left = (len(rows) + 1) // 2
        folded = rows[:left].copy()
        folded[: len(rows) - left] += rows[left:]
        rows = folded
    return rows[0] * (F(1) / F(count))
