"""Unpacking files from elsewhere: never outside the folder, never half, never a bomb.

All members are judged before the first byte is written; one that is wrong refuses the archive. Zip (hence wheels) and
tar in any compression.
"""

from __future__ import annotations

import contextlib
import shutil
import stat
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, NoReturn

from handeye.errors import UserError
from handeye.transfer import tars

_LARGEST_RATIO = 200
"""Unpacked to packed size. LIBERO's and robosuite's files reach about 20; deflate's limit, for zeros, is 1030."""

_SUSPICIOUS_SIZE = 1 << 20
"""Bytes. Below this a ratio proves nothing: a small blank picture compresses that well."""


@dataclass(frozen=True)
class _Member:
    name: str
    size: int
    packed: int | None
    """None: a tar compresses as a whole."""

    open: Callable[[], IO[bytes] | None]


def unpack(archive: Path, target: Path, *, select: Callable[[str], str | None] = lambda name: name) -> None:
    """Into the new folder `target`, whole or not at all. `select` gives the path in it; None leaves a member out."""
    part = target.with_name(f".{target.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    try:
        with _members(archive) as members:
            _judge(archive, members)
            part.mkdir(parents=True)
            for member in members:
                if (name := select(member.name)) is not None:
                    _write(archive, member, part / relative(name, source=archive))
        part.replace(target)
    except (zipfile.BadZipFile, NotImplementedError, *tars.DAMAGES) as error:
        _refuse(archive, f"damaged or cut off: {error}")
    except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
        _refuse(archive, f"one name is a file and a folder at once: {error.filename}")
    except OSError as error:
        if error.errno is not None:
            raise
        _refuse(archive, f"damaged or cut off: {error}")  # gzip and bz2 say it so
    finally:
        shutil.rmtree(part, ignore_errors=True)


def relative(name: str, *, source: object) -> PurePosixPath:
    """A name from elsewhere as a path that stays inside the folder it is joined to, on every system."""
    path = PurePosixPath(name)
    inside = name and "\\" not in name and ":" not in name and "\0" not in name and not path.is_absolute()
    if not inside or ".." in path.parts or not path.parts:
        _refuse(source, f"{name!r} would be written outside the folder")
    return path


def _refuse(source: object, why: str) -> NoReturn:
    raise UserError(
        f"{source} was refused; nothing of it was kept.", why=why, fix="get it again from where it is published"
    )


@contextlib.contextmanager
def _members(archive: Path) -> Iterator[list[_Member]]:
    """The regular files. Folders need no entry; everything else is refused."""
    if not archive.is_file():
        raise UserError(f"{archive} does not exist.", fix="check the path")
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as opened:
            yield [_zip_member(archive, opened, info) for info in opened.infolist() if not _is_folder(info)]
    elif archive.suffix in (".zip", ".whl"):
        _refuse(archive, "not a zip file, or cut off: it has no list of members at its end")
    else:
        with tars.opened(archive) as tar:
            yield [_tar_member(archive, tar, info) for info in _listed(archive, tar) if not info.isdir()]


def _is_folder(info: zipfile.ZipInfo) -> bool:
    return info.filename.endswith("/")  # its own is_dir fails at a name of nothing


def _listed(archive: Path, tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """A compressed tar is unpacked to be listed; one that grows too much is refused on the way."""
    packed = archive.stat().st_size
    for info in tars.headers(tar):
        _judge_ratio(archive, f"the tar up to {info.name}", info.offset_data + info.size, packed)
        yield info


def _zip_member(archive: Path, opened: zipfile.ZipFile, info: zipfile.ZipInfo) -> _Member:
    kind = stat.S_IFMT(info.external_attr >> 16)
    if kind not in (0, stat.S_IFREG):
        _refuse(archive, f"{info.filename} is a link or a device, not a file")
    if "\\" in info.orig_filename:  # zipfile turns them into slashes on Windows only
        _refuse(archive, f"{info.orig_filename!r} would be written outside the folder")
    if info.header_offset < 0:
        _refuse(archive, f"its list of members says that {info.filename} begins before the file")
    return _Member(info.filename, info.file_size, info.compress_size, lambda: opened.open(info))


def _tar_member(archive: Path, tar: tarfile.TarFile, info: tarfile.TarInfo) -> _Member:
    if not info.isreg() or info.issparse():
        _refuse(archive, f"{info.name} is a link, a device or a sparse file, not a plain one")
    return _Member(info.name, info.size, None, lambda: tar.extractfile(info))


def _judge(archive: Path, members: list[_Member]) -> None:
    seen: set[PurePosixPath] = set()
    for member in members:
        path = relative(member.name, source=archive)
        if path in seen:
            _refuse(archive, f"two members are called {path}")
        seen.add(path)
        if member.packed is not None:
            _judge_ratio(archive, member.name, member.size, member.packed)
    _judge_ratio(archive, "all of it", sum(member.size for member in members), archive.stat().st_size)


def _judge_ratio(archive: Path, what: str, size: int, packed: int) -> None:
    if size > _SUSPICIOUS_SIZE and size > _LARGEST_RATIO * packed:
        _refuse(archive, f"{what} would grow from {packed} to {size} bytes")


def _write(archive: Path, member: _Member, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    stream = member.open()
    if stream is None:
        _refuse(archive, f"{member.name} has no content")
    with stream, path.open("xb") as file:
        shutil.copyfileobj(stream, file)
    if path.stat().st_size != member.size:
        _refuse(archive, f"{member.name} has {path.stat().st_size} bytes instead of {member.size}")
