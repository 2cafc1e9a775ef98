from __future__ import annotations

import hashlib
import random
from pathlib import Path

import pytest

from handeye.errors import UserError
from handeye.transfer.download import Expected, Server

CONTENT = random.Random(0).randbytes(50_000)
EXPECTED = Expected(size=len(CONTENT), sha256=hashlib.sha256(CONTENT).hexdigest())
QUICK = Server(pause=0.0, timeout=5.0, tries=4)


def get(hub, path: Path, *faults: str, expected: Expected = EXPECTED) -> None:
    hub.files, hub.faults = {"a.bin": CONTENT}, {"a.bin": list(faults)}
    QUICK.download(f"{hub.url}/bytes/a.bin", path, expected)


@pytest.mark.parametrize(
    ("faults", "ranges"),
    [
        ([], [""]),
        (["cut"], ["", "bytes=25000-"]),
        (["cut", "cut", "500"], ["", "bytes=25000-", "bytes=37500-", "bytes=37500-"]),
        (["short"], ["", "bytes=25000-"]),
        (["long"], ["", ""]),
        (["drop", "503"], ["", "", ""]),
        (["other"], ["", ""]),
        (["cut", "whole"], ["", "bytes=25000-"]),
        (["cut", "416"], ["", "bytes=25000-", ""]),
    ],
)
def test_it_arrives_whole_whatever_the_server_does(fake_hub, tmp_path: Path, faults, ranges) -> None:
    get(fake_hub, tmp_path / "a.bin", *faults)
    assert (tmp_path / "a.bin").read_bytes() == CONTENT
    assert [headers.get("Range", "") for headers in fake_hub.downloads("a.bin")] == ranges
    assert [path.name for path in tmp_path.iterdir()] == ["a.bin"]


def test_a_killed_download_goes_on(fake_hub, tmp_path: Path) -> None:
    (tmp_path / ".a.bin.part").write_bytes(CONTENT[:30_000])
    get(fake_hub, tmp_path / "a.bin")
    assert (tmp_path / "a.bin").read_bytes() == CONTENT
    assert fake_hub.downloads("a.bin")[0]["Range"] == "bytes=30000-"


@pytest.mark.parametrize("leftover", [b"x" * 30_000, b"x" * 50_000, b"x" * 60_000])
def test_a_leftover_of_something_else_is_thrown_away(fake_hub, tmp_path: Path, leftover: bytes) -> None:
    (tmp_path / ".a.bin.part").write_bytes(leftover)
    get(fake_hub, tmp_path / "a.bin")
    assert (tmp_path / "a.bin").read_bytes() == CONTENT


def test_other_content_never_gets_the_name(fake_hub, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="another sha256 than announced"):
        get(fake_hub, tmp_path / "a.bin", *["other"] * 9)
    assert list(tmp_path.iterdir()) == []
    git = Expected(size=len(CONTENT), git_sha1=hashlib.sha1(b"blob 50000\0" + CONTENT).hexdigest())
    get(fake_hub, tmp_path / "a.bin", expected=git)
    with pytest.raises(UserError, match="another git sha1 than announced"):
        get(fake_hub, tmp_path / "b.bin", *["other"] * 9, expected=git)


def test_a_server_that_never_stops_does_not_fill_the_disk(fake_hub, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="101 bytes instead of 100"):
        get(fake_hub, tmp_path / "a.bin", expected=Expected(size=100, sha256="0" * 64))


def test_what_no_retry_can_mend_is_said_at_once(fake_hub, tmp_path: Path) -> None:
    for code, hint in (("404", "check the address"), ("401", "HF_TOKEN"), ("403", "HF_TOKEN")):
        before = len(fake_hub.asked)
        with pytest.raises(UserError) as caught:
            get(fake_hub, tmp_path / "a.bin", code)
        assert code in caught.value.why and hint in caught.value.fix
        assert len(fake_hub.asked) == before + 1


def test_nobody_there(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        Server(pause=0.0, tries=2).download("http://127.0.0.1:9/x", tmp_path / "x", EXPECTED)
    assert "http://127.0.0.1:9/x" in caught.value.what and "goes on from here" in caught.value.fix


def test_an_empty_file(fake_hub, tmp_path: Path) -> None:
    fake_hub.files = {"empty": b""}
    QUICK.download(f"{fake_hub.url}/bytes/empty", tmp_path / "empty", Expected(size=0))
    assert (tmp_path / "empty").read_bytes() == b""
