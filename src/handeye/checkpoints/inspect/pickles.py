"""What a pickle would do, read and not done: the names that it imports, and the tensors that it describes."""

from __future__ import annotations

import io
import pickle
import pickletools
import re
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from handeye.errors import UserError

LARGEST = 512 << 20
"""Bytes of a pickle that is looked at. Tensors lie outside it."""

PLAIN = re.compile(
    r"collections\.(OrderedDict|defaultdict)|torch(\._utils)?\._rebuild_\w+|torch\.\w*Storage|torch\.storage\.\w+"
    r"|torch\.(float|bfloat|int|uint|bool|complex|double|half)\w*|torch\.(Size|device|Tensor|nn\.parameter\.Parameter)"
    r"|numpy(\._?core\.multiarray)?\.(_reconstruct|scalar|ndarray|dtype)|numpy\._?core\.(multiarray|numeric)\.\w+"
    r"|_codecs\.encode|(copyreg|copy_reg)\._reconstructor|(builtins|__builtin__)\.(set|frozenset|object|complex|bytearray)"
)
"""Names with which tensors, arrays and containers are written. What is not here is told."""

RECORDS = re.compile(r"configs\.model_config\.\w+|argparse\.Namespace|types\.SimpleNamespace")
"""Classes that are fields and nothing else."""


def names_in(content: bytes) -> list[str]:
    """Everything that the pickles in it (there may be several, one behind the other) would import."""
    file, found = io.BytesIO(content), []
    while file.tell() < len(content):
        start = file.tell()
        found += list(_names(file))
        if file.tell() == start:
            break
    return list(dict.fromkeys(found))


def _names(file: io.BytesIO) -> Iterator[str]:
    """Protocol 4 puts module and name on the stack, perhaps from its memory."""
    said: list[str] = []
    memory: dict[int, str] = {}
    for opcode, argument, _ in pickletools.genops(file):
        if opcode.name in ("GLOBAL", "INST"):
            yield str(argument).replace(" ", ".", 1)
        elif opcode.name == "STACK_GLOBAL" and len(said) >= 2:
            yield ".".join(said[-2:])
        elif isinstance(argument, str):
            said.append(argument)
        elif opcode.name == "MEMOIZE":
            memory[len(memory)] = said[-1] if said else ""
        elif opcode.name in ("PUT", "BINPUT", "LONG_BINPUT"):
            memory[int(argument or 0)] = said[-1] if said else ""
        elif opcode.name in ("GET", "BINGET", "LONG_BINGET"):
            said.append(memory.get(int(argument or 0), "?"))


def code_in(names: Sequence[str]) -> list[str]:
    """Those that are no part of writing plain data down."""
    return [name for name in names if not PLAIN.fullmatch(name) and not RECORDS.fullmatch(name)]


TORN = (zipfile.BadZipFile, zlib.error, OSError, EOFError, ValueError, NotImplementedError, RuntimeError)
"""What zipfile raises of a damaged archive."""


def pickle_of(path: Path) -> bytes:
    """The pickle in a file of torch's, or the file itself."""
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                members = [info for info in archive.infolist() if info.filename.endswith("data.pkl")]
                if len(members) != 1 or members[0].file_size > LARGEST:
                    raise _bad(path, f"{len(members)} members called data.pkl")
                return archive.read(members[0])
    except TORN as error:
        raise _bad(path, str(error) or type(error).__name__) from None
    if path.stat().st_size > LARGEST:
        raise _bad(path, f"its {path.stat().st_size:,} bytes are one pickle, which is more than is looked at")
    return path.read_bytes()


class Shape(tuple[int, ...]):
    """Of a tensor, with its type: `kind`, as in `float32`."""

    kind: str


def outline(content: bytes) -> Any:
    """What it holds with a Shape in the place of each tensor. Nothing is imported or called: each name becomes a class
    of its own that keeps what it is given."""

    for opcode, argument, _ in pickletools.genops(content):
        # An unpickler makes room for as many values as the largest number that it is told to remember one under.
        if opcode.name in ("PUT", "LONG_BINPUT") and not 0 <= (argument or 0) <= len(content):
            raise pickle.UnpicklingError(f"it counts to {argument} in {len(content)} bytes")

    class Unpickler(pickle.Unpickler):
        def find_class(self, module: str, name: str) -> Any:
            if (module, name) == ("collections", "OrderedDict"):
                return OrderedDict
            if name.startswith("_rebuild_tensor") or name == "_rebuild_parameter":
                return _shape
            return type(name, (Opaque,), {"of": f"{module}.{name}"})

        def persistent_load(self, pid: Any) -> Any:
            return pid

    return Unpickler(io.BytesIO(content)).load()


class Opaque:
    """Stands for any class, and any call."""

    of = ""

    def __init__(self, *given: Any, **named: Any) -> None:
        self.given = given

    def __call__(self, *given: Any, **named: Any) -> Any:
        return self

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, dict):
            self.__dict__.update(state)

    def append(self, value: Any) -> None:
        """Lists and sets of foreign classes are filled one by one."""

    def extend(self, values: Any) -> None:
        """As append."""

    def __setitem__(self, key: Any, value: Any) -> None:
        """Nor are dictionaries kept."""


def _shape(*given: Any) -> Any:
    """Of `_rebuild_tensor_v2(storage, offset, size, stride, ...)`; a parameter passes its tensor on."""
    if isinstance(given[0], Shape):
        return given[0]
    found = Shape(int(n) for n in given[2])
    storage = given[0][1] if isinstance(given[0], tuple) and len(given[0]) > 1 else None
    name = str(getattr(storage, "of", "")).rpartition(".")[2].removesuffix("Storage").lower()
    found.kind = {"float": "float32", "half": "float16", "double": "float64", "long": "int64", "int": "int32"}.get(
        name, name or "?"
    )
    return found


def tensors_in(value: Any, prefix: str = "") -> dict[str, Shape]:
    """By name, as far as dictionaries go."""
    if isinstance(value, Shape):
        return {prefix.rstrip("."): value}
    found: dict[str, Shape] = {}
    if isinstance(value, dict):
        for name, part in value.items():
            found |= tensors_in(part, f"{prefix}{name}.")
    return found


def _bad(path: Path, why: str) -> UserError:
    return UserError(f"{path} cannot be read as a torch file.", why=why, fix="fetch or copy it again")
