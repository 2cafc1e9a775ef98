from __future__ import annotations

import io
import random
import tarfile
from pathlib import Path

import pytest

from handeye.transfer import tars

FILES = {"images/a.png": b"first", "images/b.png": random.Random(0).randbytes(2000), "empty": b"", "y" * 300: b"long"}


def make(path: Path, *extra: tarfile.TarInfo, form: int = tarfile.PAX_FORMAT) -> Path:
    with tarfile.open(path, "w", format=form) as archive:
        for name, content in FILES.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        for info in extra:
            archive.addfile(info)
    return path


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_members_are_where_they_are_said_to_be(tmp_path: Path, form: int) -> None:
    folder = tarfile.TarInfo("folder")
    folder.type = tarfile.DIRTYPE
    path = make(tmp_path / "x.tar", folder, form=form)
    content = path.read_bytes()
    found = tars.members(path)
    assert {member.name: content[member.offset : member.offset + member.size] for member in found} == FILES


@pytest.mark.parametrize("at", [148, 100, 0])
def test_a_damaged_header_in_the_middle_is_not_the_end(tmp_path: Path, at: int) -> None:
    """Python's reader lists one member and says nothing."""
    path = make(tmp_path / "x.tar")
    content = bytearray(path.read_bytes())
    content[1024 + at] ^= 0x55
    path.write_bytes(content)
    with tarfile.open(path) as naive:
        assert naive.getnames() == ["images/a.png"]
    with pytest.raises(tars.DamagedTarError, match="header"):
        tars.members(path)


def test_a_header_that_was_overwritten_with_nothing_is_not_the_end(tmp_path: Path) -> None:
    path = make(tmp_path / "x.tar")
    content = bytearray(path.read_bytes())
    content[1024:1536] = bytes(512)
    path.write_bytes(content)
    with pytest.raises(tars.DamagedTarError, match="ends at byte 1024, but more follows"):
        tars.members(path)


def test_without_its_end_mark_it_may_have_been_cut(tmp_path: Path) -> None:
    whole = make(tmp_path / "x.tar").read_bytes()
    end = whole.rindex(b"long") + 512
    for kept, why in ((end, "header"), (end + 512, "two empty blocks"), (end + 1024, "")):
        (tmp_path / "x.tar").write_bytes(whole[:kept])
        if why:
            with pytest.raises(tars.DamagedTarError, match=why):
                tars.members(tmp_path / "x.tar")
        else:
            assert len(tars.members(tmp_path / "x.tar")) == len(FILES)
    (tmp_path / "x.tar").write_bytes(whole + bytes(2 << 20))
    with pytest.raises(tars.DamagedTarError, match="of nothing"):
        tars.members(tmp_path / "x.tar")


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_links_and_devices(tmp_path: Path, kind: bytes) -> None:
    info = tarfile.TarInfo("odd")
    info.type, info.linkname = kind, "/etc/hostname"
    with pytest.raises(tars.DamagedTarError, match="odd is a link"):
        tars.members(make(tmp_path / "x.tar", info))


def test_sizes_that_no_file_has(tmp_path: Path) -> None:
    """Less than nothing would send the reader back for ever; a description of a gigabyte would be read into memory."""
    backwards = tarfile.TarInfo("odd")
    backwards.pax_headers = {"size": "-1024"}
    with pytest.raises(tars.DAMAGES):
        tars.members(make(tmp_path / "x.tar", backwards))
    huge = tarfile.TarInfo("odd")
    huge.type, huge.size = tarfile.GNUTYPE_LONGNAME, 1 << 30
    with pytest.raises(tars.DamagedTarError, match="1073741824 bytes"):
        tars.members(make(tmp_path / "x.tar", huge))


def test_a_chain_of_headers_that_describe_headers(tmp_path: Path) -> None:
    header = tarfile.TarInfo("odd")
    header.type, header.size = tarfile.GNUTYPE_LONGNAME, 1
    link = header.tobuf(tarfile.GNU_FORMAT) + b"a" + bytes(511)
    (tmp_path / "x.tar").write_bytes(link * 5000 + bytes(1024))
    with pytest.raises(tars.DAMAGES):
        tars.members(tmp_path / "x.tar")
