"""Folders elsewhere, through fsspec's memory and local file systems and a web server on this machine."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import fsspec
import pytest

from handeye.errors import UserError
from handeye.transfer import remote
from handeye.transfer.remote import Mirror, elsewhere, url_of


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("HANDEYE_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(remote, "PAUSE", 0.01)
    yield
    fsspec.filesystem("memory").store.clear()


@pytest.fixture
def web(tmp_path: Path) -> Iterator[str]:
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: Any) -> None:
            pass

    (tmp_path / "www" / "run").mkdir(parents=True)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path / "www")))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}/run"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize(
    ("place", "url"),
    [
        ("s3://bucket/runs/a", "s3://bucket/runs/a"),
        (Path("s3://bucket/runs/a/"), "s3://bucket/runs/a"),
        (Path("memory://a"), "memory://a"),
        ("file:///tmp/a", "file:///tmp/a"),
        (Path("file:///tmp/a"), "file:///tmp/a"),
        ("HTTPS://host/a", "https://host/a"),
        ("runs/a", None),
        ("/runs/a", None),
        ("C:/runs", None),
        ("s3:", None),
        ("", None),
    ],
)
def test_what_is_a_url(place: str | Path, url: str | None) -> None:
    assert url_of(place) == url


def test_a_folder_that_is_here_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "s3:" / "a").mkdir(parents=True)
    assert url_of(Path("s3://a")) is None
    assert url_of(Path("s3://b")) == "s3://b"


@pytest.mark.parametrize("kind", ["memory", "file"])
def test_write_list_read(kind: str, tmp_path: Path) -> None:
    far = elsewhere({"memory": "memory://shelf/run", "file": f"file://{tmp_path}/shelf/run"}[kind])
    assert far.names() == {}
    assert far.read("plan.json") is None
    far.write("plan.json", b"{}")
    far.write("videos/a.mp4", b"12345")
    far.write("plan.json", b"[]")
    assert far.names() == {"plan.json": 2, "videos/a.mp4": 5}
    assert far.read("plan.json") == b"[]"
    assert far.fetch("videos/a.mp4", tmp_path / "here" / "a.mp4")
    assert not far.fetch("videos/b.mp4", tmp_path / "here" / "b.mp4")
    assert [path.name for path in (tmp_path / "here").iterdir()] == ["a.mp4"]


def test_a_file_is_whole_or_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What breaks in the middle of writing leaves the old one."""
    far = elsewhere(f"file://{tmp_path}/run")
    far.write("a", b"old")
    system = fsspec.filesystem("file")
    opened = system.open

    def breaks(*args: Any, **flags: Any) -> Any:
        file = opened(*args, **flags)
        file.write(b"ne")
        raise OSError("cut")

    monkeypatch.setattr(system, "open", breaks)
    with pytest.raises(UserError, match="cannot be used"):
        far.write("a", b"new")
    monkeypatch.undo()
    assert (tmp_path / "run" / "a").read_bytes() == b"old"


def test_a_tree_is_copied_once(monkeypatch: pytest.MonkeyPatch) -> None:
    far = elsewhere("memory://set")
    far.write("a/1.bin", b"1" * 10)
    far.write("2.bin", b"2")
    copy = remote.tree("memory://set")
    assert {str(path.relative_to(copy)) for path in copy.rglob("*") if path.is_file()} == {"a/1.bin", "2.bin"}
    far.write("2.bin", b"22")
    fetched: list[str] = []
    get_file = type(fsspec.filesystem("memory")).get_file
    monkeypatch.setattr(
        type(fsspec.filesystem("memory")),
        "get_file",
        lambda self, name, *rest, **flags: (fetched.append(name), get_file(self, name, *rest, **flags)),
    )
    assert remote.tree("memory://set") == copy
    assert (copy / "2.bin").read_bytes() == b"22"
    assert len(fetched) == 1


def test_nothing_there() -> None:
    with pytest.raises(UserError, match="nothing at memory://nowhere"):
        remote.tree("memory://nowhere")


def test_a_name_that_leads_outside_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    far = elsewhere("memory://set")
    monkeypatch.setattr(type(far), "names", lambda self: {"../../evil": 4})
    with pytest.raises(UserError, match="refused"):
        remote.tree("memory://set")


def test_schemes_that_nobody_knows() -> None:
    with pytest.raises(UserError, match="gopher://a cannot be reached"):
        elsewhere("gopher://a")
    with pytest.raises(UserError, match="cannot be reached") as refused:
        elsewhere("s3://bucket/a")
    assert "s3fs" in refused.value.why, "the package that is missing is named"


def test_reading_from_a_web_server(web: str, tmp_path: Path) -> None:
    (tmp_path / "www" / "run" / "plan.json").write_text("{}")
    copy = remote.files(web, ("plan.json", "summary.json"))
    assert [path.name for path in copy.iterdir()] == ["plan.json"]
    (tmp_path / "www" / "run" / "plan.json").unlink()
    (tmp_path / "www" / "run" / "summary.json").write_text("[]")
    assert [path.name for path in remote.files(web, ("plan.json", "summary.json")).iterdir()] == ["summary.json"]
    with pytest.raises(UserError, match="cannot be listed"):
        remote.tree(web)
    with pytest.raises(UserError, match="Nothing can be written"):
        elsewhere(web).write("a", b"")


def test_a_mirror_sends_what_changed_and_waits_at_the_end(tmp_path: Path) -> None:
    far = elsewhere("memory://run")
    mirror = Mirror("memory://run", tmp_path)
    for number in range(20):
        with (tmp_path / "episodes.jsonl").open("a") as file:
            file.write(f"{number}\n")
        mirror.send("episodes.jsonl")
    with (tmp_path / "episodes.jsonl").open("a") as file:
        file.write("half a li")
    mirror.send("episodes.jsonl")
    mirror.close()
    assert far.read("episodes.jsonl") == b"".join(b"%d\n" % number for number in range(20))


def test_a_mirror_tries_again_and_says_what_did_not_arrive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failures = 3
    write = remote._Stored.write

    def flaky(self: Any, name: str, content: bytes) -> None:
        nonlocal failures
        failures -= 1
        if failures >= 0:
            raise UserError("no", why="the network is down", fix="wait")
        write(self, name, content)

    monkeypatch.setattr(remote._Stored, "write", flaky)
    (tmp_path / "a").write_text("a")
    mirror = Mirror("memory://run", tmp_path)
    mirror.send("a")
    mirror.close()
    assert elsewhere("memory://run").read("a") == b"a"
    failures = 1000
    mirror = Mirror("memory://run", tmp_path)
    mirror.send("a")
    with pytest.raises(UserError, match=r"a could not be sent to memory://run") as refused:
        mirror.close()
    assert "the network is down" in refused.value.why
    assert "run the same command again" in refused.value.fix
