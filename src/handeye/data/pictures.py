"""Encoded pictures: JPEG and PNG, decoded only after their header told a size that is allowed.

What a policy was trained on depends on the decoder. TensorFlow decodes JPEG with the fast integer DCT and smooth
chroma; `decode` does the same, to the bit, through simplejpeg (libjpeg-turbo). Pillow's accurate DCT differs from it by
about one level on average and up to 17. TensorFlow encodes with the accurate DCT, which is Pillow's.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import simplejpeg
from jaxtyping import UInt8
from PIL import Image

from handeye.errors import UserError

Codec = Literal["jpeg", "png"]

MOST_SIDE = 4096
"""Pixels: sixteen times the side of what policies are trained on. A few bytes can declare any size."""

MOST_BYTES = 64_000_000
"""Encoded: noise of that size as PNG has 50 MB. For readers, before they read one."""

_JPEG, _PNG = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"
_JPEG_SPACES = {"RGB", "YCbCr", "Gray"}
_PNG_MODES = {"RGB", "L", "P", "1"}
"""What becomes RGB without a loss; with transparency, where nothing is transparent."""


@dataclass(frozen=True, kw_only=True)
class Header:
    """What a picture says of itself before it is decoded."""

    codec: Codec
    height: int
    width: int


def header(data: bytes, where: str) -> Header:
    """UserError where `data` is no JPEG or PNG, or too large. `where` names the picture in the error."""
    if data.startswith(_JPEG):
        try:
            height, width, space, _ = simplejpeg.decode_jpeg_header(data)
        except ValueError as error:
            raise _bad(where, f"its JPEG header is damaged: {error}") from None
        if space not in _JPEG_SPACES:
            raise _bad(where, f"its colours are {space}; RGB, YCbCr and grey are decoded")
        found = Header(codec="jpeg", height=height, width=width)
    elif data.startswith(_PNG):
        if len(data) < 33 or data[12:16] != b"IHDR":
            raise _bad(where, "its PNG header is cut off")
        width, height = struct.unpack(">II", data[16:24])
        found = Header(codec="png", height=height, width=width)
    else:
        raise _bad(where, f"it starts with {data[:8].hex(' ') or 'nothing'}, which is neither JPEG nor PNG")
    if not (0 < found.height <= MOST_SIDE and 0 < found.width <= MOST_SIDE):
        raise _bad(
            where, f"it is {found.height} x {found.width} pixels; 1 x 1 to {MOST_SIDE} x {MOST_SIDE} are decoded"
        )
    return found


def decode(
    data: bytes,
    where: str,
    *,
    size: tuple[int, int] | None = None,
    out: UInt8[np.ndarray, "h w 3"] | None = None,
    alpha: Literal["refuse", "drop"] = "refuse",
) -> UInt8[np.ndarray, "h w 3"]:
    """RGB, as stored (not turned). `size`: the height and width that it must have; `out`: where the pixels go. `alpha`:
    what happens to a PNG's transparency, where there is any; dropping it shows the colours that it hid."""
    said = header(data, where)
    if out is not None:
        size = (out.shape[0], out.shape[1])
    if size is not None and (said.height, said.width) != size:
        raise _bad(where, f"it is {said.height} x {said.width} pixels instead of {size[0]} x {size[1]}")
    if out is None:
        out = np.empty((said.height, said.width, 3), np.uint8)
    if said.codec == "jpeg":
        _decode_jpeg(data, where, out)
    else:
        _decode_png(data, where, out, alpha)
    return out


def encode_jpeg(image: UInt8[np.ndarray, "h w 3"]) -> bytes:
    """The bytes that TensorFlow's encode_jpeg gives by default, and with it TFDS: quality 95, chroma halved both ways,
    300 dots per inch (tensorflow/core/lib/jpeg/jpeg_mem.h, CompressFlags)."""
    out = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(image)).save(out, "JPEG", quality=95, subsampling="4:2:0", dpi=(300, 300))
    return out.getvalue()


def encode_png(image: UInt8[np.ndarray, "h w 3"]) -> bytes:
    """Without loss. Level 4 of zlib takes a third of the time of Pillow's 6 and 5 % more room on LIBERO's scenes."""
    out = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(image)).save(out, "PNG", compress_level=4)
    return out.getvalue()


def _decode_jpeg(data: bytes, where: str, out: UInt8[np.ndarray, "h w 3"]) -> None:
    try:
        simplejpeg.decode_jpeg(data, colorspace="RGB", fastdct=True, fastupsample=False, buffer=out)
    except ValueError as error:
        raise _bad(where, f"its JPEG data is damaged: {error}") from None


def _decode_png(data: bytes, where: str, out: UInt8[np.ndarray, "h w 3"], alpha: Literal["refuse", "drop"]) -> None:
    pixels = io.BytesIO(b"".join([_PNG, *_png_pixels(data, where)]))
    try:
        with Image.open(pixels, formats=["PNG"]) as image:
            clear = image.mode in ("RGBA", "LA") and image.getchannel("A").getextrema() != (255, 255)
            clear = clear or "transparency" in image.info
            if (clear and alpha == "refuse") or image.mode not in (*_PNG_MODES, "RGBA", "LA"):
                raise _bad(where, f"its pixels are {image.mode}, which 8-bit RGB cannot hold")
            out[:] = np.asarray(image.convert("RGB"))
    except (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error) as error:
        raise _bad(where, f"its PNG data is damaged: {error}") from None


def _png_pixels(data: bytes, where: str) -> Iterator[memoryview]:
    """The chunks that make up the pixels, whole, each with its checksum compared (Pillow skips that). Texts, profiles
    and animation, which can unpack to any size, are left out."""
    view, at, name = memoryview(data), len(_PNG), b""
    while name != b"IEND":
        length, name = struct.unpack(">I4s", view[at : at + 8]) if at + 12 <= len(view) else (len(view), b"")
        chunk = view[at : at + length + 12]
        if len(chunk) < length + 12:
            raise _bad(where, "its PNG data is cut off")
        if zlib.crc32(chunk[4:-4]) != int.from_bytes(chunk[-4:], "big"):
            raise _bad(where, f"the checksum of its chunk {name.decode('latin-1')} does not match")
        if name == b"IHDR" and at != len(_PNG):
            raise _bad(where, "it has two PNG headers")
        if name in (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"):
            yield chunk
        at += length + 12


def _bad(where: str, why: str) -> UserError:
    return UserError(f"{where} is not a usable picture.", why=why, fix="fetch or make the data again")
