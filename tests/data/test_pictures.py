"""JPEG and PNG in and out; whatever is no such picture, or a bomb, ends in an error that names it."""

from __future__ import annotations

import io
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
from PIL import Image

from handeye.data.pictures import Header, decode, encode_jpeg, encode_png, header
from handeye.errors import UserError


def picture(height: int = 32, width: int = 48) -> np.ndarray:
    """Smooth, as photographs are, with different channels."""
    y, x = np.mgrid[:height, :width]
    return np.stack([4 * y, 3 * x, 2 * (x + y)], axis=-1).clip(0, 255).astype(np.uint8)


def chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def saved(mode: str, kind: str, colour: object = 0) -> bytes:
    out = io.BytesIO()
    Image.new(mode, (20, 10), colour).save(out, kind)
    return out.getvalue()


def test_png_is_exact_and_jpeg_near() -> None:
    there = picture()
    np.testing.assert_array_equal(decode(encode_png(there), "a picture"), there)
    away = np.abs(decode(encode_jpeg(there), "a picture").astype(int) - there)
    assert 0 < away.mean() < 1.5 and away.max() < 10
    assert header(encode_jpeg(there), "a picture") == Header(codec="jpeg", height=32, width=48)
    assert encode_jpeg(there) == encode_jpeg(there) and encode_png(there) == encode_png(there)


def test_a_turned_view_is_encoded_as_it_looks() -> None:
    there = picture()[::-1, ::-1]
    np.testing.assert_array_equal(decode(encode_png(there), "a picture"), there)


def test_jpeg_is_written_as_tensorflow_does() -> None:
    """Quality 95 (its luminance table starts with 2), chroma halved, 300 dots per inch."""
    with Image.open(io.BytesIO(encode_jpeg(picture()))) as image:
        assert image.quantization[0][0] == 2 and image.info["dpi"] == (300, 300)
        assert image.layer[0][1:3] == (2, 2) and image.layer[1][1:3] == (1, 1)


@pytest.mark.parametrize(
    ("data", "colour"),
    [
        (saved("L", "PNG", 7), 7),
        (saved("RGBA", "PNG", (7, 7, 7, 255)), 7),
        (saved("1", "PNG", 1), 255),
        (saved("L", "JPEG", 7), 7),
    ],
)
def test_what_rgb_can_hold_is_taken(data: bytes, colour: int) -> None:
    found = decode(data, "a picture", size=(10, 20))
    assert found.shape == (10, 20, 3) and (found == colour).all()


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "starts with nothing"),
        (b"GIF89a", "neither JPEG nor PNG"),
        (saved("RGBA", "PNG", (7, 7, 7, 254)), "pixels are RGBA"),
        (saved("I;16", "PNG", 7), "pixels are I;16"),
        (saved("CMYK", "JPEG"), "colours are CMYK"),
        (encode_jpeg(picture())[:-100], "JPEG data is damaged"),
        (encode_jpeg(picture())[:30], "JPEG header is damaged"),
        (encode_png(picture())[:30], "PNG header is cut off"),
        (encode_png(picture())[:-20], "PNG data is cut off"),
        (encode_png(picture()).replace(b"IDAT", b"IDAU"), "checksum of its chunk IDAU"),
    ],
)
def test_what_is_no_picture_is_refused(data: bytes, why: str) -> None:
    with pytest.raises(UserError, match=why) as caught:
        decode(data, "step 3 of episode 7")
    assert caught.value.what.startswith("step 3 of episode 7")


def test_another_size_is_refused() -> None:
    with pytest.raises(UserError, match="32 x 48 pixels instead of 32 x 32"):
        decode(encode_png(picture()), "a picture", size=(32, 32))


@pytest.mark.parametrize("encode", [encode_jpeg, encode_png])
def test_pixels_go_where_they_are_wanted(encode) -> None:
    frames = np.zeros((3, 32, 48, 3), np.uint8)
    assert decode(encode(picture()), "a picture", out=frames[1]).base is frames
    np.testing.assert_array_equal(frames[1], decode(encode(picture()), "a picture"))
    assert not frames[[0, 2]].any()
    with pytest.raises(UserError, match="instead of 31 x 48"):
        decode(encode(picture()), "a picture", out=frames[1, 1:])


def test_a_declared_size_costs_nothing() -> None:
    """Headers of 65,500 x 65,500 pixels in a few hundred bytes; 12 GB if anybody believed them."""
    jpeg = bytearray(encode_jpeg(picture()))
    frame = jpeg.index(b"\xff\xc0")
    jpeg[frame + 5 : frame + 9] = struct.pack(">HH", 65500, 65500)
    ihdr = chunk(b"IHDR", struct.pack(">IIBBBBB", 65500, 65500, 8, 2, 0, 0, 0))
    png = b"\x89PNG\r\n\x1a\n" + ihdr + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    second = encode_png(picture())[:33] + ihdr + encode_png(picture())[33:]
    tracemalloc.start()
    for data, why in ((bytes(jpeg), "65500 x 65500"), (png, "65500 x 65500"), (second, "two PNG headers")):
        with pytest.raises(UserError, match=why):
            decode(data, "a picture")
    assert tracemalloc.get_traced_memory()[1] < 5e6
    tracemalloc.stop()


def test_what_is_no_pixel_is_not_unpacked() -> None:
    """A text of 100 MB in 100 kB; Pillow alone would refuse the picture for it."""
    whole = encode_png(picture())
    text = chunk(b"zTXt", b"x\0\0" + zlib.compress(bytes(100_000_000)))
    np.testing.assert_array_equal(decode(whole[:33] + text + whole[33:], "a picture"), picture())


@pytest.mark.parametrize("encode", [encode_jpeg, encode_png])
def test_damage_ends_in_an_error_or_a_picture(encode) -> None:
    content, rng, refused = encode(picture()), np.random.default_rng(0), 0
    for case in range(400):
        broken = bytearray(content)
        if case % 2:
            broken = broken[: rng.integers(0, len(broken))]
        else:
            for place in rng.integers(0, len(broken), 3):
                broken[place] ^= 1 << rng.integers(8)
        try:
            assert decode(bytes(broken), "a picture").dtype == np.uint8
        except UserError:
            refused += 1
    assert refused >= 200  # every cut
