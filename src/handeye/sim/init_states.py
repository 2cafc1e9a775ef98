"""A task's stored initial states: read from what `torch.save` wrote, without torch and without running any of it.

The published files are pickles. A pickle is a program, so this reader knows four names, those with which NumPy writes
an array, and gives each a harmless meaning of its own: not even NumPy's own functions are called on the file's word.
Once fetched, states are kept as `.npz`.
"""

from __future__ import annotations

import io
import pickle
import pickletools
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from jaxtyping import Float64

from handeye.errors import UserError
from handeye.records import write_bytes

_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
"""First pickle of a file that torch before 1.6 wrote; version, machine and then the object follow."""

_LARGEST = 64 << 20
"""Bytes. The largest published file has 59 thousand; 50 states of the largest scene need 40 thousand."""

States = Float64[np.ndarray, "N D"]


def read(path: Path) -> States:
    """Of a `.pruned_init` file: one row per initial state, columns time, qpos, qvel. UserError names what is wrong."""
    try:
        content = path.read_bytes()
    except OSError as error:
        _refuse(path, str(error))
    return parse(content, source=path)


def parse(content: bytes, *, source: Path | str) -> States:
    """As `read`, for a file that is in memory already (a member of a wheel)."""
    if not content:
        _refuse(source, "the file is empty")
    if len(content) > _LARGEST:
        _refuse(source, f"{len(content)} bytes are far more than initial states need")
    pickled = _pickle_of_zip(content, source) if content.startswith(b"PK") else content
    try:
        return _checked(_unpickle(pickled), source)
    except UserError:
        raise
    except Exception as error:  # whatever a hostile or torn pickle can raise: it has no other effect
        _refuse(source, str(error) or type(error).__name__)


def save(path: Path, states: States) -> None:
    buffer = io.BytesIO()
    np.savez(buffer, states=states)
    write_bytes(path, buffer.getvalue())


def load(path: Path) -> States:
    """Of a file that `save` wrote."""
    try:
        content = path.read_bytes()
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            if max(len(content), *(member.file_size for member in archive.infolist())) > _LARGEST:
                raise ValueError(f"more than {_LARGEST} bytes are far more than initial states need")
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            states = np.asarray(file["states"])
    except Exception as error:  # NumPy's reader has its own parsers, and each of them its own exceptions
        _refuse(path, str(error) or type(error).__name__)
    return _rows(states, path)


def _refuse(source: Path | str, why: str) -> NoReturn:
    raise UserError(
        f"{source} holds no initial states that can be used.",
        why=why,
        fix="`handeye fetch libero` brings the original files; nothing of this one was executed",
    )


def _pickle_of_zip(content: bytes, source: Path | str) -> bytes:
    """`data.pkl`, the only member that matters in torch's zip layout: NumPy arrays are stored inside the pickle."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = [info for info in archive.infolist() if info.filename.split("/")[-1] == "data.pkl"]
            if len(members) != 1:
                _refuse(source, f"a zip file with {len(members)} members called data.pkl instead of one")
            if members[0].file_size > _LARGEST:
                _refuse(source, f"data.pkl claims {members[0].file_size} bytes")
            return archive.read(members[0])
    except (zipfile.BadZipFile, EOFError, OSError, ValueError, NotImplementedError, RuntimeError) as error:
        _refuse(source, f"not a complete zip file: {error}")


def _unpickle(content: bytes) -> object:
    """The object of a plain pickle, or the fourth pickle of torch's layout before 1.6."""
    file = io.BytesIO(content)
    names = _allowed_names()

    class Unpickler(pickle.Unpickler):
        def find_class(self, module: str, name: str) -> Any:
            if (module, name) not in names:
                raise pickle.UnpicklingError(f"it asks for {module}.{name}; only plain NumPy arrays are allowed")
            return names[module, name]

    def load() -> object:
        start = file.tell()
        for opcode, argument, _ in pickletools.genops(file):
            # The unpickler makes room for as many values as the largest number it is told to remember one under.
            if opcode.name in ("PUT", "LONG_BINPUT") and not 0 <= (argument or 0) <= len(content):
                raise pickle.UnpicklingError(f"it counts to {argument} in {len(content)} bytes")
        file.seek(start)
        found: object = Unpickler(file).load()
        return found

    if (first := load()) != _LEGACY_MAGIC:
        return first
    load()  # the protocol's version
    load()  # facts about the machine that wrote it
    return load()


def _allowed_names() -> dict[tuple[str, str], Callable[..., object]]:
    """Names a pickled array refers to -> our stand-ins. Made anew for each file, so that none can leave a trace."""

    class Dtype:
        def __init__(self, code: object, *flags: object) -> None:
            self.code, self.order = code, "<"

        def __setstate__(self, state: tuple[Any, ...]) -> None:
            self.order = state[1]

        def __str__(self) -> str:
            return f"{self.order}{self.code}"

    class Array:
        def __init__(self, *skeleton: object) -> None:
            self.state: tuple[Any, ...] = ()

        def __setstate__(self, state: tuple[Any, ...]) -> None:
            self.state = state

    def encode(text: str, encoding: str) -> bytes:
        if encoding != "latin1":
            raise pickle.UnpicklingError(f"it wants bytes made by {encoding!r}")
        return text.encode("latin1")

    return {
        ("numpy.core.multiarray", "_reconstruct"): Array,  # NumPy 1, as published
        ("numpy._core.multiarray", "_reconstruct"): Array,  # NumPy 2
        ("numpy", "ndarray"): Array,
        ("numpy", "dtype"): Dtype,
        ("_codecs", "encode"): encode,
    }


def _checked(found: object, source: Path | str) -> States:
    """The array whose pickled description `found` is."""
    state = getattr(found, "state", None)
    if not isinstance(state, tuple) or len(state) != 5:
        _refuse(source, f"it holds a {type(found).__name__}, not one array")
    _, shape, dtype, fortran, data = state
    if str(dtype) not in ("<f8", ">f8") or not isinstance(data, bytes):
        _refuse(source, f"it holds an array of {dtype}, not of 64-bit floats")
    if not isinstance(shape, tuple) or len(shape) != 2 or not all(isinstance(n, int) and n > 0 for n in shape):
        _refuse(source, f"the array has shape {shape}, not (states, values)")
    if len(data) != 8 * shape[0] * shape[1]:
        _refuse(source, f"an array of shape {shape} cannot have {len(data)} bytes")
    flat = np.frombuffer(data, dtype=str(dtype)).astype(np.float64)
    return _rows(flat.reshape(shape, order="F" if fortran else "C"), source)


def _rows(states: np.ndarray, source: Path | str) -> States:
    if states.ndim != 2 or states.dtype != np.float64:
        _refuse(source, f"the array is {states.dtype} of shape {states.shape}, not float64 of (states, values)")
    if len(bad := np.flatnonzero(~np.isfinite(states).all(axis=1))):
        _refuse(source, f"state {bad[0]} holds a NaN or an infinity")
    return np.ascontiguousarray(states)
