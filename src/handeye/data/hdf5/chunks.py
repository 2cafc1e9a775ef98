"""Packed chunks of an HDF5 array that could unpack to far more than the array has.

The library unpacks a chunk to its end and compares its size afterwards; deflate makes up to 1,030 bytes of one. Chunks
as large as that could matter are unpacked here first, no further than they should.
"""

from __future__ import annotations

import zlib
from math import prod

import h5py

UNWATCHED = 300_000
"""Bytes of a packed chunk. It cannot become more than 309 MB. Ours have 100,000 at most, LIBERO's are not packed."""

_DEFLATE, _CHECKSUM = 1, 3
"""Filters of the library; the others give as much as a chunk has."""


def check(dataset: h5py.Dataset) -> h5py.Dataset:
    """The same one. ValueError where a chunk holds more than it should."""
    if dataset.chunks is None:
        return dataset
    large: list[tuple[int, ...]] = []

    def look(info: h5py.h5d.StoreInfo) -> None:
        if info.size > UNWATCHED:
            large.append(info.chunk_offset)

    dataset.id.chunk_iter(look)
    settings = dataset.id.get_create_plist()
    filters = [settings.get_filter(number)[0] for number in range(settings.get_nfilters())]
    most = prod(dataset.chunks) * dataset.dtype.itemsize
    for place in large:
        left_out, content = dataset.id.read_direct_chunk(place)
        for number, kind in reversed([*enumerate(filters)]):
            if left_out >> number & 1:
                continue
            if kind == _CHECKSUM:
                content = content[:-4]
            elif kind == _DEFLATE:
                content = _unpacked(content, most + most // 8 + 1024)
            else:
                break
    return dataset


def _unpacked(content: bytes, most: int) -> bytes:
    """Deflate within deflate may have a little more than its chunk in between."""
    stream = zlib.decompressobj()
    try:
        unpacked = stream.decompress(content, most)
    except zlib.error as error:
        raise ValueError(f"a chunk is damaged: {error}") from None
    if stream.unconsumed_tail:
        raise ValueError(f"a chunk of {len(content)} bytes unpacks to more than the {most} that it may have")
    return unpacked
