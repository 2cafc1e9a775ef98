from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from handeye.errors import UserError
from handeye.transfer import hub
from handeye.transfer.download import Server

FILES = {f"scenes/file {number}.bin": bytes([number]) * 100 for number in range(7)}
OTHERWISE = "carry it here"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    real = hub.server
    monkeypatch.setattr(hub, "server", lambda: Server(secret=real().secret, pause=0.0, timeout=5.0, tries=3))


def data_set(name: str = "owner/name", **arguments: str) -> hub.DataSet:
    return hub.data_set(name, otherwise=OTHERWISE, **arguments)


def get(found: hub.DataSet, paths, root: Path, **arguments) -> list[int]:
    told: list[int] = []
    found.get(sorted(paths), root, advance=told.append, **arguments)
    return told


def test_all_pages_of_the_list_and_files_of_both_kinds(fake_hub, tmp_path: Path) -> None:
    """The next page's address is on another server in this fake; only its query is used."""
    fake_hub.files, fake_hub.pages = FILES, 3
    found = data_set()
    assert set(found.files) == set(FILES)
    assert sum(bool(expected.sha256) for expected in found.files.values()) == 4
    assert sum(bool(expected.git_sha1) for expected in found.files.values()) == 3
    assert sum(get(found, FILES, tmp_path)) == found.size([*FILES]) == 700
    assert {str(path.relative_to(tmp_path)): path.read_bytes() for path in tmp_path.rglob("*.bin")} == FILES


def test_a_list_without_an_end(fake_hub) -> None:
    fake_hub.pages = 10**9
    fake_hub.tree = lambda page: []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hub, "_MOST_PAGES", 5)
        with pytest.raises(UserError, match="has no end"):
            data_set()


def test_what_is_there_is_not_asked_for_again_unless_it_is_wrong(fake_hub, tmp_path: Path) -> None:
    fake_hub.files = FILES
    found = data_set()
    get(found, FILES, tmp_path)
    (tmp_path / "scenes/file 3.bin").write_bytes(b"damaged")
    before = len(fake_hub.asked)
    assert sum(get(found, FILES, tmp_path)) == 700
    assert len(fake_hub.asked) == before + 2  # the redirection and the file
    assert (tmp_path / "scenes/file 3.bin").read_bytes() == FILES["scenes/file 3.bin"]


def test_the_token_is_for_the_hub_alone(fake_hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "secret")
    fake_hub.files, fake_hub.token = {"a": b"1"}, "secret"
    get(data_set(), ["a"], tmp_path)
    for path, headers in fake_hub.asked:
        assert ("Authorization" in headers) == (not path.startswith("/bytes/")), path
    assert len(fake_hub.asked) == 4


def test_the_token_follows_a_data_set_that_was_renamed(fake_hub, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "secret")
    fake_hub.files, fake_hub.token, fake_hub.moved = {"a": b"1"}, "secret", {"old/name": "owner/name"}
    get(data_set("old/name"), ["a"], tmp_path)
    assert (tmp_path / "a").read_bytes() == b"1"


def test_where_the_token_is_looked_for(fake_hub, tmp_path: Path, monkeypatch, capfd) -> None:
    def sent() -> str:
        return hub.server().secret.get("Authorization", "")

    assert sent() == ""
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    (tmp_path / "token").write_text("from-login\n")
    assert sent() == "Bearer from-login"
    monkeypatch.setenv("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")
    assert sent() == ""
    monkeypatch.delenv("HF_HUB_DISABLE_IMPLICIT_TOKEN")
    monkeypatch.setenv("HF_TOKEN_PATH", str(tmp_path / "other"))
    assert sent() == ""
    monkeypatch.setenv("HUGGING_FACE_HUB_TOKEN", "old")
    assert sent() == "Bearer old"
    monkeypatch.setenv("HF_TOKEN", " new\n")
    assert sent() == "Bearer new"
    assert "unencrypted" not in capfd.readouterr().err
    monkeypatch.setenv("HF_ENDPOINT", "http://mirror.invalid")
    assert sent() == "Bearer new" and "unencrypted" in capfd.readouterr().err
    monkeypatch.setenv("HF_TOKEN", "two\nlines")
    with pytest.raises(UserError, match=r"\$HF_TOKEN holds no token") as caught:
        hub.server()
    assert "lines" not in str(caught.value)
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.delenv("HUGGING_FACE_HUB_TOKEN")
    monkeypatch.setenv("HF_TOKEN_PATH", str(tmp_path))
    with pytest.raises(UserError, match="cannot be read"):
        hub.server()


def test_through_a_proxy(fake_hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_hub.files = {"a": b"1"}
    monkeypatch.setenv("http_proxy", fake_hub.url)
    monkeypatch.setenv("no_proxy", "")
    monkeypatch.setenv("HF_ENDPOINT", "http://hub.invalid")
    fake_hub.url, fake_hub.storage = "http://hub.invalid", "http://storage.invalid"
    get(data_set(), ["a"], tmp_path)
    assert (tmp_path / "a").read_bytes() == b"1"
    assert [headers["Host"] for _, headers in fake_hub.asked] == ["hub.invalid"] * 3 + ["storage.invalid"]


def test_errors_name_the_data_set(fake_hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="lacks 2 of the files") as caught:
        get(data_set(), ["x", "y"], tmp_path)
    assert caught.value.fix == OTHERWISE
    fake_hub.files = {"../../x": b"1"}
    with pytest.raises(UserError, match="outside the folder"):
        get(data_set(), ["../../x"], tmp_path / "a")
    with pytest.raises(UserError, match="OWNER/NAME"):
        data_set("../../admin/x")
    monkeypatch.setenv("HF_ENDPOINT", fake_hub.url + "/bytes")
    with pytest.raises(UserError, match="404"):
        data_set()
    monkeypatch.setenv("HF_ENDPOINT", "huggingface.co")
    with pytest.raises(UserError, match="HF_ENDPOINT"):
        data_set()
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.setenv(name, "1")
        with pytest.raises(UserError, match="owner/name") as caught:
            data_set()
        assert OTHERWISE in caught.value.fix
        monkeypatch.delenv(name)


@pytest.mark.parametrize(
    "entry",
    [
        {"type": "submodule", "path": "a"},
        {"type": "file", "path": "a", "size": -1, "oid": "0" * 40},
        {"type": "file", "path": "a", "size": 1, "oid": "zz"},
        {"type": "file", "path": "a", "size": True, "oid": "0" * 40},
        {"type": "file", "path": "a", "size": 1, "oid": "0" * 40, "lfs": {"size": 1, "oid": "0" * 40}},
        {"type": "file", "size": 1, "oid": "0" * 40},
        "a",
        ["a"],
    ],
)
def test_a_list_that_is_not_a_hubs(fake_hub, entry: object) -> None:
    fake_hub.tree = lambda page: [entry]
    with pytest.raises(UserError, match="did not answer as a hub does"):
        data_set()
    fake_hub.tree = lambda page: json.loads("[" * 500 + "]" * 500)
    with pytest.raises(UserError, match="did not answer as a hub does"):
        data_set()


def test_the_first_failure_is_told_and_the_rest_is_kept(fake_hub, tmp_path: Path) -> None:
    fake_hub.files = FILES
    fake_hub.faults = {"scenes/file 6.bin": ["404"]}
    with pytest.raises(UserError, match="404"):
        get(data_set(), FILES, tmp_path)
    assert len(list(tmp_path.rglob("*.bin"))) == 6


@pytest.mark.parametrize("workers", [1, 4])
def test_a_refused_login_asks_for_nothing_more(fake_hub, tmp_path: Path, workers: int) -> None:
    """Also while other transfers run: each worker asks once at most."""
    fake_hub.files, fake_hub.token = {f"{number:03d}": bytes(100) for number in range(300)}, "secret"
    with pytest.raises(UserError, match="HF_TOKEN"):
        get(data_set(), fake_hub.files, tmp_path, workers=workers)
    asked = [path for path, _ in fake_hub.asked if "/resolve/" in path]
    assert 1 <= len(asked) <= workers
    assert list(tmp_path.iterdir()) == []


def test_a_refused_login_ends_what_runs(fake_hub, tmp_path: Path) -> None:
    fake_hub.files = {"a": bytes(400_000), "z": b"1"}
    fake_hub.faults, fake_hub.refused = {"a": ["slow"]}, {"z"}
    start = time.monotonic()
    with pytest.raises(UserError, match="HF_TOKEN"):
        get(data_set(), ["a", "z"], tmp_path)
    assert time.monotonic() - start < 3  # all of `a` takes four seconds
    assert not (tmp_path / "a").exists()
