from __future__ import annotations

import contextlib
import io
import pickle
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest

from handeye.errors import UserError
from handeye.sim import init_states


def torch_zip(content: bytes) -> bytes:
    """As `torch.save` lays a file out."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("archive/data.pkl", content)
        archive.writestr("archive/version", "3\n")
    return buffer.getvalue()


def legacy(content: bytes) -> bytes:
    """As torch before 1.6 did."""
    head = [pickle.dumps(value, 2) for value in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})]
    return b"".join([*head, content, pickle.dumps([], 2)])


STATES = np.arange(12, dtype=np.float64).reshape(3, 4)


@pytest.mark.parametrize("wrap", [torch_zip, legacy, bytes])
@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4])
@pytest.mark.parametrize("array", [STATES, np.asfortranarray(STATES), STATES.astype(">f8")])
def test_every_layout_gives_the_same_array(wrap, protocol: int, array: np.ndarray) -> None:
    found = init_states.parse(wrap(pickle.dumps(array, protocol)), source="here")
    assert found.dtype == np.float64 and found.flags.c_contiguous and found.dtype.isnative
    np.testing.assert_array_equal(found, STATES)


def test_numpy_1_names() -> None:
    content = pickle.dumps(STATES, 2).replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
    np.testing.assert_array_equal(init_states.parse(content, source="here"), STATES)


class Touch:
    """Unpickled without restriction, it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("wrap", [torch_zip, legacy, bytes])
def test_nothing_is_executed(wrap, tmp_path: Path) -> None:
    evil = tmp_path / "evil"
    for value in (Touch(evil), [STATES, Touch(evil)], {"a": Touch(evil)}):
        with pytest.raises(UserError, match="only plain NumPy arrays"):
            init_states.parse(wrap(pickle.dumps(value, 2)), source="here")
    assert not evil.exists()


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (STATES[0], "shape"),
        (STATES[None], "shape"),
        (STATES[:0], "bytes"),  # no bytes are pickled under a name of their own, which nothing else needs
        (STATES.astype(np.float32), "f4"),
        (STATES.astype(int), "i8"),
        (STATES.astype(object), "O8"),
        (np.where(STATES == 6, np.inf, STATES), "state 1"),
        ([1.0], "list"),
        ("text", "str"),
        (None, "NoneType"),
    ],
)
def test_what_is_no_table_of_states(value: object, why: str) -> None:
    with pytest.raises(UserError) as caught:
        init_states.parse(torch_zip(pickle.dumps(value, 2)), source="states.pruned_init")
    assert "states.pruned_init" in caught.value.what and why in caught.value.why


@pytest.mark.parametrize("wrap", [torch_zip, legacy, bytes])
def test_cut_anywhere_or_with_any_byte_changed_it_never_crashes(wrap) -> None:
    whole = wrap(pickle.dumps(STATES, 2))
    for end in range(0, len(whole) - len(pickle.dumps([], 2)), 9):  # the last list of the legacy layout is not read
        with pytest.raises(UserError):
            init_states.parse(whole[:end], source="here")
    rng = np.random.default_rng(0)
    for _ in range(60):
        changed = bytearray(whole)
        changed[rng.integers(len(whole))] = rng.integers(256)
        with contextlib.suppress(UserError):
            assert init_states.parse(bytes(changed), source="here").ndim == 2


def test_claims_of_size_are_not_believed() -> None:
    content = pickle.dumps(STATES, 2).replace(b"K\x03K\x04\x86", b"J" + struct.pack("<i", 1 << 30) + b"K\x04\x86")
    with pytest.raises(UserError, match="cannot have"):
        init_states.parse(content, source="here")


def test_a_memo_as_large_as_the_machine_is_not_made() -> None:
    remember_under_2e9 = b"r" + struct.pack("<I", 2_000_000_000)
    with pytest.raises(UserError, match="it counts to 2000000000"):
        init_states.parse(b"\x80\x02N" + remember_under_2e9 + b".", source="here")


def test_save_and_load(tmp_path: Path) -> None:
    init_states.save(tmp_path / "a.npz", STATES)
    np.testing.assert_array_equal(init_states.load(tmp_path / "a.npz"), STATES)
    content = (tmp_path / "a.npz").read_bytes()
    for broken in (b"", content[:-30], b"no zip", content.replace(b"states.npy", b"other_.npy")):
        (tmp_path / "a.npz").write_bytes(broken)
        with pytest.raises(UserError):
            init_states.load(tmp_path / "a.npz")
