from __future__ import annotations

import io
import random
import shutil
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


def make_tar(path: Path, members: dict[str, bytes], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_a_tar_that_is_cut_anywhere_is_refused(tmp_path: Path, mode: str) -> None:
    content = random.Random(0).randbytes(3000)
    whole = make_tar(tmp_path / "whole.tar", {"a": content, "b/c": content, "d": b""}, mode).read_bytes()
    source = tmp_path / "x.tar"
    for length in range(0, len(whole), 509):
        source.write_bytes(whole[:length])
        if mode == "w" and length >= 3 * 512 + 2 * 3072 + 1024:  # behind the end mark: nothing is missing
            continue
        with pytest.raises(UserError, match="refused"):
            unpack(source, tmp_path / "new")
        assert not (tmp_path / "new").exists()


def test_a_tar_that_grows_too_much_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    source = make_tar(tmp_path / "x.tar.gz", {"a": b"1", "z": bytes(30 << 20), "b": b"1"}, "w:gz")
    with pytest.raises(UserError, match="the tar up to z would grow"):
        unpack(source, tmp_path / "new")


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz", "tar.bz2", "tar.xz"])
def test_random_damage_ends_in_success_or_a_user_error(tmp_path: Path, kind: str) -> None:
    generator = random.Random(kind)
    files = {f"folder/{number}": generator.randbytes(700 * number) for number in range(4)} | {"x" * 120: b"long name"}
    source = tmp_path / f"x.{kind}"
    whole = (make_zip(source, files) if kind == "zip" else make_tar(source, files, f"w:{kind[4:]}")).read_bytes()
    outcomes = set()
    for _ in range(150):
        damaged = bytearray(whole[: generator.choice([len(whole), generator.randrange(len(whole))])])
        for _ in range(generator.randrange(1, 6)):
            if damaged:
                damaged[generator.randrange(min(len(damaged), generator.choice([600, len(whole)])))] = (
                    generator.randrange(256)
                )
        source.write_bytes(damaged)
        target = tmp_path / "deep" / "new"
        try:
            unpack(source, target)
            outcomes.add("accepted")
            shutil.rmtree(target)
        except UserError:
            outcomes.add("refused")
            assert not target.exists()
    assert "refused" in outcomes
    assert {path.name for path in tmp_path.rglob("*")} <= {source.name, "deep"}
