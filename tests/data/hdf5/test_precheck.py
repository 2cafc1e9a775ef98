"""Sound files of every kind pass; what makes the HDF5 library spin, crash or swell does not reach it."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from handeye.data.hdf5 import precheck
from handeye.data.hdf5.precheck import MalformedError, check
from handeye.data.hdf5.read import opened
from handeye.errors import UserError

LIBVERS = ["earliest", "v108", "v110", "v112", "v114", "v200", ("earliest", "v110"), "latest"]


def everything(file: h5py.File, *, many: int) -> None:
    """Groups, attributes, types and layouts of all kinds; `many`: of each, enough for trees with levels."""
    data = file.create_group("data")
    for number in range(many):
        data.create_group(f"demo_{number}").attrs["model_file"] = f"<mujoco n='{number}'/>" * 40
        data.attrs[f"attribute_{number}"] = number
    data.attrs["empty"], data.attrs["flag"], data.attrs["nothing"] = "", True, h5py.Empty("f4")
    data.attrs["fixed"], data.attrs["words"] = np.bytes_("words"), ["a", "", "ü" * 500]
    data.attrs["pair"] = np.array([(1, 2.0, b"x")], [("a", "i4"), ("b", "f8", (2, 3)), ("c", "S3")])
    data.attrs["texts"] = np.array([("x", [1, 2])], [("a", h5py.string_dtype()), ("b", "i2", 2)])
    data.attrs["complex"], data.attrs["half"] = 1 + 2j, np.float16(1)
    data.attrs["reference"], data.attrs["choice"] = data.ref, np.array(1, h5py.enum_dtype({"a": 0, "b": 1}))
    data.attrs.create("ragged", [np.arange(3), np.arange(0)], (2,), h5py.vlen_dtype(np.int64))
    data.attrs.create("raw", np.void(b"opaque"), dtype="V6")
    file["committed"] = np.dtype([("x", "f4")])
    data.attrs.create("shared", np.zeros(2, [("x", "f4")]), dtype=file["committed"])
    rows = np.arange(many * 40).reshape(-1, 4)
    for name, options in {
        "plain": {}, "chunked": {"chunks": (1, 4)}, "gzip": {"compression": "gzip", "chunks": (2, 4)},
        "lzf": {"compression": "lzf", "shuffle": True}, "checked": {"fletcher32": True, "chunks": (8, 4)},
        "growing": {"maxshape": (None, 4), "chunks": (3, 4)}, "scaled": {"scaleoffset": 0, "chunks": (8, 4)},
    }.items():  # fmt: skip
        file.create_dataset(f"sets/{name}", data=rows, **options)
    file["sets/growing"].resize((2, 4))
    file["sets/text"], file["sets/none"] = "words", h5py.Empty("f8")
    file.create_dataset("sets/late", (100, 100), "f4")
    file.create_dataset("sets/texts", data=["one", "two"], dtype=h5py.string_dtype())
    file["soft"], file["again"] = h5py.SoftLink("/data"), data
    file["outside"] = h5py.ExternalLink("other.hdf5", "/data")
    del data["demo_1"], data.attrs["attribute_0"], file["sets/plain"]
    data.attrs["words"] = ["written", "anew" * 100]


@pytest.mark.parametrize("many", [3, 300])
@pytest.mark.parametrize(
    ("libver", "options"),
    [(libver, {}) for libver in LIBVERS]
    + [
        (libver, options)
        for libver in ("earliest", "latest")
        for options in ({"track_order": True}, {"userblock_size": 1024}, {"fs_strategy": "page"})
    ],
    ids=str,
)
def test_sound_files_pass(tmp_path: Path, libver: str, options: dict, many: int) -> None:
    path = tmp_path / "a.hdf5"
    if options.get("track_order"):
        many = min(many, 200)
    with h5py.File(path, "w", libver=libver, **options) as file:
        everything(file, many=many)
    check(path)
    with h5py.File(path, "a") as file:  # written to again
        file["data"].attrs["later"] = "x" * 5000
    check(path)


@pytest.mark.goldens
def test_reference_data_passes(goldens: Path) -> None:
    files = sorted((goldens / "data/libero_hdf5").rglob("*.hdf5"))
    for path in files:
        check(path)
    assert len(files) == 2


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A group with a tree of two levels, a long text, and a set of many chunks."""
    path = tmp_path_factory.mktemp("sound") / "a.hdf5"
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        for number in range(600):
            data.create_group(f"demo_{number}")
        data.attrs["short"], data.attrs["long"] = "words", "x" * 10_000
        file.create_dataset("set", data=np.arange(3000), chunks=(10,), compression="gzip")
    check(path)
    return path.read_bytes()


def put(content: bytes, at: int, form: str, *values: int) -> bytes:
    new = struct.pack(form, *values)
    return content[:at] + new + content[at + len(new) :]


def tree(content: bytes, kind: int) -> int:
    """Where a tree of two levels begins: of names (0) or of chunks (1)."""
    at = content.find(b"TREE" + bytes([kind, 1]))
    assert at > 0
    return at


def free_text(content: bytes) -> bytes:
    at = content.find(b"GCOL") + 16
    while (index := struct.unpack_from("<H", content, at)[0]) != 0:
        assert index
        at += 16 + (struct.unpack_from("<Q", content, at + 8)[0] + 7 & ~7)
    return put(content, at + 8, "<Q", 0)


def free_names(content: bytes) -> bytes:
    heap = content.find(b"HEAP")
    free, address = struct.unpack_from("<QQ", content, heap + 16)
    return put(content, address + free, "<QQ", free, 16)


DEFECTS: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "a free text of no bytes": (free_text, "object 0 of the heap .* has 0 bytes"),
    "free names in a circle": (free_names, "are no chain"),
    "names in a circle": (lambda c: put(c, tree(c, 0) + 32, "<Q", tree(c, 0)), "leads back to itself"),
    "chunks in a circle": (lambda c: put(c, tree(c, 1) + 48, "<Q", tree(c, 1)), "leads back to itself"),
    "a chunk of 2 GB": (lambda c: put(c, c.find(b"TREE\1\0") + 24, "<I", 1 << 31), "is stored in 2147483648"),
    "a tree outside": (lambda c: put(c, tree(c, 0) + 32, "<Q", 1 << 40), "the file has"),
    "a name outside": (lambda c: put(c, c.find(b"SNOD") + 8, "<Q", 1 << 20), "outside its heap"),
    "a text of 2 GB": (
        lambda c: put(c, c.find(struct.pack("<I", 10_000)), "<I", 1 << 31),
        "a text or list of 2147483648",
    ),
    "a text's heap outside": (lambda c: put(c, c.find(struct.pack("<I", 10_000)) + 4, "<Q", 1 << 40), "the file has"),
    "texts of an unknown kind": (lambda c: c.replace(b"\x19\x01\x01\0\x10\0\0\0", b"\x19\2\1\0\x10\0\0\0"), "unknown"),
    "cut in the middle": (lambda c: c[: len(c) // 2], "the file has"),
    "no HDF5": (lambda c: b"x" + c[1:], "no HDF5 signature"),
}


@pytest.mark.parametrize("what", DEFECTS)
def test_what_the_library_must_not_see(sound: bytes, tmp_path: Path, what: str) -> None:
    change, why = DEFECTS[what]
    damaged = change(sound)
    assert damaged != sound
    path = tmp_path / "a.hdf5"
    path.write_bytes(damaged)
    with pytest.raises(MalformedError, match=why):
        check(path)
    with pytest.raises(UserError, match=why), opened(path):
        pass


def test_texts_behind_a_heap_with_checksums_are_found(tmp_path: Path) -> None:
    path = tmp_path / "a.hdf5"
    with h5py.File(path, "w", libver="latest") as file:
        for number in range(20):  # more than an object header holds
            file.attrs[f"attribute_{number}"] = f"text {number}"
    check(path)
    path.write_bytes(free_text(path.read_bytes()))
    with pytest.raises(MalformedError, match="has 0 bytes"):
        check(path)


def test_an_object_header_that_continues_in_itself(tmp_path: Path) -> None:
    path = tmp_path / "a.hdf5"
    with h5py.File(path, "w") as file:
        for number in range(30):
            file.attrs[f"attribute_{number}"] = number
    content = path.read_bytes()
    at = content.find(struct.pack("<HH", 0x10, 16)) + 8
    path.write_bytes(put(content, at, "<Q", at - 8))
    with pytest.raises(MalformedError):
        check(path)


def test_types_within_types_without_end(tmp_path: Path) -> None:
    path = tmp_path / "a.hdf5"
    with h5py.File(path, "w") as file:
        kind = np.dtype("f4")
        for _ in range(40):
            kind = np.dtype([("a", kind)])
        file.attrs.create("deep", np.zeros((), kind))
    with pytest.raises(MalformedError, match="within more than"):
        check(path)


def test_of_a_large_file_little_is_read(tmp_path: Path) -> None:
    """A gigabyte of pictures, which is a hole in the file."""
    path = tmp_path / "a.hdf5"
    with h5py.File(path, "w") as file:
        for number in range(50):
            group = file.create_group(f"data/demo_{number}")
            group.attrs["model_file"] = "<x/>" * 20_000
            group.create_dataset("actions", data=np.zeros((150, 7)))
            for camera in ("agentview_rgb", "eye_in_hand_rgb"):
                pictures = group.create_dataset(f"obs/{camera}", (150, 128, 128, 3), "u1", fillvalue=None)
                pictures[149, 127, 127, 2] = 1
    size = path.stat().st_size
    with path.open("rb") as file:
        walk = precheck.Walk(file, size)
        walk.superblock()
    assert size > 730_000_000
    assert walk.taken < 1_000_000
