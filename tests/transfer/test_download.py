from __future__ import annotations

import hashlib
import random
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from handeye.errors import UserError
from handeye.transfer.download import Expected, LoginError, Server, StoppedError, TransferError

CONTENT = random.Random(0).randbytes(50_000)
EXPECTED = Expected(size=len(CONTENT), sha256=hashlib.sha256(CONTENT).hexdigest())
QUICK = Server(pause=0.0, timeout=5.0, tries=4)


def get(hub, path: Path, *faults: str, expected: Expected = EXPECTED, server: Server = QUICK, **arguments) -> None:
    hub.files, hub.faults = {"a.bin": CONTENT}, {"a.bin": list(faults)}
    server.download(f"{hub.url}/bytes/a.bin", path, expected, **arguments)


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
        (["slow"], [""]),
        (["429:0", "cut", "429"], ["", "", "bytes=25000-", "bytes=25000-"]),
    ],
)
def test_it_arrives_whole_whatever_the_server_does(fake_hub, tmp_path: Path, faults, ranges) -> None:
    told: list[int] = []
    get(fake_hub, tmp_path / "a.bin", *faults, advance=told.append)
    assert (tmp_path / "a.bin").read_bytes() == CONTENT
    assert [headers.get("Range", "") for headers in fake_hub.downloads("a.bin")] == ranges
    assert [path.name for path in tmp_path.iterdir()] == ["a.bin"]
    assert sum(told) == len(CONTENT)


def test_a_connection_that_falls_silent_is_given_up(fake_hub, tmp_path: Path) -> None:
    get(fake_hub, tmp_path / "a.bin", "silence", server=replace(QUICK, timeout=0.3))
    assert (tmp_path / "a.bin").read_bytes() == CONTENT
    assert fake_hub.downloads("a.bin")[1]["Range"] == "bytes=25000-"


def test_tries_count_only_while_nothing_new_comes(fake_hub, tmp_path: Path) -> None:
    get(fake_hub, tmp_path / "a.bin", *["cut"] * 10)
    assert (tmp_path / "a.bin").read_bytes() == CONTENT
    with pytest.raises(UserError, match="4 tries in a row"):
        get(fake_hub, tmp_path / "b.bin", "cut", *["500"] * 4)
    assert len((tmp_path / ".b.bin.part").read_bytes()) == 25_000


def test_a_killed_download_goes_on(fake_hub, tmp_path: Path) -> None:
    (tmp_path / ".a.bin.part").write_bytes(CONTENT[:30_000])
    get(fake_hub, tmp_path / "a.bin")
    assert (tmp_path / "a.bin").read_bytes() == CONTENT
    assert fake_hub.downloads("a.bin")[0]["Range"] == "bytes=30000-"


@pytest.mark.parametrize("leftover", [b"x" * 30_000, b"x" * 50_000, b"x" * 60_000])
def test_a_leftover_of_something_else_is_thrown_away(fake_hub, tmp_path: Path, leftover: bytes) -> None:
    (tmp_path / ".a.bin.part").write_bytes(leftover)
    told: list[int] = []
    get(fake_hub, tmp_path / "a.bin", advance=told.append)
    assert (tmp_path / "a.bin").read_bytes() == CONTENT
    assert sum(told) == len(CONTENT)


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
        assert isinstance(caught.value, LoginError) == (code != "404")
        assert len(fake_hub.asked) == before + 1


def test_a_server_that_says_how_long_to_wait_is_obeyed(fake_hub, tmp_path: Path) -> None:
    start = time.monotonic()
    get(fake_hub, tmp_path / "a.bin", "429:1")
    assert time.monotonic() - start > 0.9
    with pytest.raises(UserError, match="asks to wait for 3600 s") as caught:
        get(fake_hub, tmp_path / "b.bin", "cut", "429:3600")
    assert "goes on from here" in caught.value.fix
    assert (tmp_path / ".b.bin.part").stat().st_size == 25_000


def test_redirections_stay_on_http(fake_hub, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="from http to ftp"):
        get(fake_hub, tmp_path / "a.bin", "ftp")


def test_a_refusal_elsewhere_is_an_address_that_ran_out(fake_hub, tmp_path: Path) -> None:
    """The hub signs addresses of its storage for an hour; asking it again gives a new one."""
    fake_hub.files, fake_hub.faults = {"a.bin": CONTENT}, {"a.bin": ["403"]}
    resolve = f"{fake_hub.url}/datasets/o/n/resolve/{'0' * 40}/a.bin"
    QUICK.download(resolve, tmp_path / "a.bin", EXPECTED)
    assert (tmp_path / "a.bin").read_bytes() == CONTENT


def test_stopping(fake_hub, tmp_path: Path) -> None:
    for faults in (["slow"], ["429:60"]):
        server = replace(QUICK, stop=threading.Event())
        timer = threading.Timer(0.1, server.stop.set)
        timer.start()
        start = time.monotonic()
        with pytest.raises(StoppedError):
            get(fake_hub, tmp_path / "a.bin", *faults, server=server)
        assert time.monotonic() - start < 5
        timer.join(5)
    assert 0 < (tmp_path / ".a.bin.part").stat().st_size < len(CONTENT)


def test_an_answer_that_is_too_long_or_cut(fake_hub, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_hub.files = {"a": CONTENT}
    fake_hub.faults = {"a": ["cut"]}
    assert QUICK.read(f"{fake_hub.url}/bytes/a")[0] == CONTENT
    assert len(fake_hub.downloads("a")) == 2
    monkeypatch.setattr("handeye.transfer.download.LARGEST_ANSWER", 10_000)
    with pytest.raises(UserError, match="longer than"):
        QUICK.read(f"{fake_hub.url}/bytes/a")


def test_nobody_there(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        Server(pause=0.0, tries=2).download("http://127.0.0.1:9/x", tmp_path / "x", EXPECTED)
    assert "http://127.0.0.1:9/x" in caught.value.what and "goes on from here" in caught.value.fix


def test_a_folder_that_cannot_be_written_is_not_the_network(fake_hub, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        get(fake_hub, tmp_path / "file" / "a.bin")
    (tmp_path / "folder" / "in the way").mkdir(parents=True)
    with pytest.raises(UserError, match="cannot be written"):
        get(fake_hub, tmp_path / "folder")
    assert len(fake_hub.asked) == 1


def test_an_empty_file(fake_hub, tmp_path: Path) -> None:
    fake_hub.files = {"empty": b""}
    QUICK.download(f"{fake_hub.url}/bytes/empty", tmp_path / "empty", Expected(size=0))
    assert (tmp_path / "empty").read_bytes() == b""


def test_a_wait_may_be_a_date(fake_hub, tmp_path: Path) -> None:
    for wait in ("Fri, 01 Jan 2100 00:00:00 GMT", "soon"):
        fake_hub.files, fake_hub.faults = {"a": b"1"}, {"a": [f"503:{wait}"]}
        caught: list[BaseException] = []
        try:
            QUICK.open(f"{fake_hub.url}/bytes/a")
        except (TransferError, UserError) as error:
            caught.append(error)
        assert isinstance(caught[0], UserError) == (wait != "soon")
