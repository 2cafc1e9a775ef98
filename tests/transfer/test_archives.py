from __future__ import annotations

import io
import tarfile
import zipfile
from pathlib import Path

import pytest

from handeye.errors import UserError
from handeye.transfer.archives import relative, unpack


def make_zip(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_zip_and_tar_with_a_selection(tmp_path: Path) -> None:
    members = {"a/one.txt": b"1", "a/b/two.txt": b"22", "c/three.txt": b"333"}
    zipped = make_zip(tmp_path / "x.zip", members)
    with tarfile.open(tmp_path / "x.tar.gz", "w:gz") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    for number, source in enumerate((zipped, tmp_path / "x.tar.gz")):
        unpack(source, tmp_path / f"all{number}")
        assert tree(tmp_path / f"all{number}") == members
        unpack(source, tmp_path / f"some{number}", select=lambda n: n[2:] if n.startswith("a/") else None)
        assert tree(tmp_path / f"some{number}") == {"one.txt": b"1", "b/two.txt": b"22"}


@pytest.mark.parametrize("name", ["../x", "/x", "a/../../x", "C:/x", "a\\..\\x", "", ".", "a\0b", "//host/x"])
def test_names_that_leave(name: str) -> None:
    with pytest.raises(UserError, match="outside the folder"):
        relative(name, source="archive.zip")


def test_one_bad_member_refuses_all_of_it(tmp_path: Path) -> None:
    for bad in ({"../x": b""}, {"a": b"", "a/b": b""}, {"z": bytes(30_000_000)}):
        source = make_zip(tmp_path / "x.zip", {"good.txt": b"good", **bad})
        with pytest.raises(UserError):
            unpack(source, tmp_path / "new")
        assert [path.name for path in tmp_path.iterdir()] == ["x.zip"]


def test_a_link_in_a_zip(tmp_path: Path) -> None:
    link = zipfile.ZipInfo("link")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr(link, "/etc")
    with pytest.raises(UserError, match="link or a device"):
        unpack(tmp_path / "x.zip", tmp_path / "new")


def test_a_damaged_member_leaves_nothing(tmp_path: Path) -> None:
    source = make_zip(tmp_path / "x.zip", {"one.txt": b"first", "two.txt": bytes(range(256)) * 40})
    content = bytearray(source.read_bytes())
    content[len(content) // 2] ^= 1
    source.write_bytes(content)
    with pytest.raises(UserError):
        unpack(source, tmp_path / "new")
    assert [path.name for path in tmp_path.iterdir()] == ["x.zip"]
