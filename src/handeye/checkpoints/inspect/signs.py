"""What a file is by its first bytes, whatever its name says: half of all "broken checkpoints" are something else that
was saved under the name of one."""

from __future__ import annotations

import json
import re
import struct
import zipfile
from pathlib import Path
from typing import Literal

Sign = Literal[
    "empty", "lfs", "annex", "html", "xml", "error", "safetensors", "torch", "zip", "pickle", "hdf5", "npz", "tar",
    "gzip", "json", "text", "other",
]  # fmt: skip

FEW = 4096
LFS = b"version https://git-lfs.github.com/spec/"
HDF5 = b"\x89HDF\r\n\x1a\n"
TAR = 257
"""Where a tar says `ustar`."""

SUSPECT = (
    ".safetensors",
    ".pt",
    ".pth",
    ".bin",
    ".ckpt",
    ".npz",
    ".model",
    ".json",
    ".hdf5",
    ".parquet",
    ".mp4",
    ".pkl",
)
"""Files of a checkpoint or a data set that may be a page or a pointer instead."""


def sign(path: Path) -> Sign:
    with path.open("rb") as file:
        start = file.read(FEW)
    return _of(start, path)


def _of(start: bytes, path: Path) -> Sign:
    text = start.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if not start:
        return "empty"
    if start.startswith(LFS):
        return "lfs"
    if re.match(rb"/annex/objects/|\.\./.*\.git/annex/", start):
        return "annex"
    if text.startswith((b"<!doctype html", b"<html", b"<head")):
        return "html"
    if text.startswith((b"<?xml", b"<error>")):
        return "xml"
    if start.startswith(HDF5):
        return "hdf5"
    if start.startswith(b"PK"):
        return _zip(path)
    if start.startswith(b"\x1f\x8b"):
        return "gzip"
    if start[TAR : TAR + 5] == b"ustar":
        return "tar"
    if _is_safetensors(start, path):
        return "safetensors"
    if start[:1] == b"\x80" and start[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return "pickle"
    if text.startswith((b"{", b"[")):
        return "error" if re.match(rb'\{\s*"error"', text) and len(start) < FEW else "json"
    if path.suffix == ".safetensors":
        return "safetensors"
    return "text" if b"\0" not in start else "other"


def _zip(path: Path) -> Sign:
    """torch's, NumPy's, or any other; a torn one by its name."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, RuntimeError):
        names = []
    if any(name.endswith("data.pkl") for name in names):
        return "torch"
    if names and all(name.endswith(".npy") for name in names):
        return "npz"
    return "torch" if not names and path.suffix in (".pt", ".pth", ".bin", ".ckpt", ".pruned_init") else "zip"


def _is_safetensors(start: bytes, path: Path) -> bool:
    if len(start) < 9:
        return False
    (length,) = struct.unpack("<Q", start[:8])
    return start[8:9] == b"{" and (length < path.stat().st_size or path.suffix == ".safetensors")


def stranger(path: Path) -> tuple[str, str] | None:
    """(what is wrong, what to do), if the file is no file at all."""
    kind, size = sign(path), path.stat().st_size
    if kind == "empty":
        return f"{path.name} is empty (0 bytes)", "get it again: the download or the copy was cut off"
    if kind in ("lfs", "annex"):
        what = "Git LFS" if kind == "lfs" else "git-annex"
        fix = "`git lfs install && git lfs pull` in its clone" if kind == "lfs" else "`git annex get` in its clone"
        return f"{path.name} is a {what} pointer of {size} bytes{_pointed(path)}: the file itself was never fetched", (
            f"{fix}, or download it from the hub"
        )
    if kind in ("html", "xml", "error") and path.suffix not in (".html", ".htm", ".xml"):
        what = {"html": "a web page", "xml": "an XML answer", "error": "an error message"}[kind]
        return f"{path.name} is {what}{_title(path)}, saved under this name", (
            "get it again: sign in or accept the licence first, and use the address of the file itself, not of its page"
        )
    return None


def _pointed(path: Path) -> str:
    found = re.search(rb"size (\d+)", path.read_bytes()[:FEW])
    return f" for {int(found[1]):,} bytes" if found else ""


def _title(path: Path) -> str:
    start = path.read_bytes()[:FEW]
    if (found := re.search(rb"<title>\s*(.*?)\s*</title>|<message>\s*(.*?)\s*</message>", start, re.I | re.S)) is None:
        try:
            value = json.loads(start)
        except ValueError:
            return ""
        return f" ({str(value.get('error'))[:80]})" if isinstance(value, dict) else ""
    text = next(part for part in found.groups() if part is not None)
    return f" ('{text.decode(errors='replace')[:80]}')"


def strangers(folder: Path) -> list[tuple[str, str]]:
    """Of a folder, its first thousand files."""
    files = [path for path in sorted(folder.rglob("*"))[:1000] if path.suffix in SUSPECT and path.is_file()]
    return [found for path in files if (found := stranger(path)) is not None]
