from __future__ import annotations

from pathlib import Path

import pytest

from handeye.errors import UserError
from handeye.transfer import hub
from handeye.transfer.download import Server

QUICK = Server(pause=0.0, timeout=5.0, tries=3)
FILES = {f"scenes/file {number}.bin": bytes([number]) * 100 for number in range(7)}


def test_all_pages_of_the_list_and_files_of_both_kinds(fake_hub, tmp_path: Path) -> None:
    fake_hub.files, fake_hub.pages = FILES, 3
    found = hub.data_set("owner/name", server=QUICK)
    assert set(found.files) == set(FILES)
    assert sum(bool(expected.sha256) for expected in found.files.values()) == 4
    assert sum(bool(expected.git_sha1) for expected in found.files.values()) == 3
    counted: list[int] = []
    found.get(sorted(FILES), tmp_path, advance=counted.append)
    assert {str(path.relative_to(tmp_path)): path.read_bytes() for path in tmp_path.rglob("*.bin")} == FILES
    assert sum(counted) == len(FILES)


def test_what_is_there_is_not_asked_for_again_unless_it_is_wrong(fake_hub, tmp_path: Path) -> None:
    fake_hub.files = FILES
    found = hub.data_set("owner/name", server=QUICK)
    found.get(sorted(FILES), tmp_path, advance=lambda count: None)
    (tmp_path / "scenes/file 3.bin").write_bytes(b"damaged")
    before = len(fake_hub.asked)
    found.get(sorted(FILES), tmp_path, advance=lambda count: None)
    assert len(fake_hub.asked) == before + 2  # the redirection and the file
    assert (tmp_path / "scenes/file 3.bin").read_bytes() == FILES["scenes/file 3.bin"]


def test_the_token_is_for_the_hub_alone(fake_hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "secret")
    fake_hub.files = {"a": b"1"}
    hub.data_set("owner/name").get(["a"], tmp_path, advance=lambda count: None)
    for path, headers in fake_hub.asked:
        assert ("Authorization" in headers) == (not path.startswith("/bytes/"))
    assert len(fake_hub.asked) == 4


def test_through_a_proxy(fake_hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_hub.files = {"a": b"1"}
    monkeypatch.setenv("http_proxy", fake_hub.url)
    monkeypatch.setenv("no_proxy", "")
    monkeypatch.setenv("HF_ENDPOINT", "http://hub.invalid")
    fake_hub.url = "http://hub.invalid"
    hub.data_set("owner/name", server=QUICK).get(["a"], tmp_path, advance=lambda count: None)
    assert (tmp_path / "a").read_bytes() == b"1"
    assert all(headers["Host"] == "hub.invalid" for _, headers in fake_hub.asked)


def test_errors_name_the_data_set(fake_hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="lacks 2 files"):
        hub.data_set("owner/name", server=QUICK).get(["x", "y"], tmp_path, advance=lambda count: None)
    fake_hub.files = {"../../x": b"1"}
    with pytest.raises(UserError, match="outside the folder"):
        hub.data_set("owner/name", server=QUICK).get(["../../x"], tmp_path / "a", advance=lambda count: None)
    monkeypatch.setenv("HF_ENDPOINT", fake_hub.url + "/bytes")
    with pytest.raises(UserError, match="404"):
        hub.data_set("owner/name", server=QUICK)
    monkeypatch.setenv("HF_ENDPOINT", "huggingface.co")
    with pytest.raises(UserError, match="HF_ENDPOINT"):
        hub.data_set("owner/name", server=QUICK)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(UserError, match="owner/name"):
        hub.data_set("owner/name", server=QUICK)


def test_the_first_failure_is_told_and_the_rest_is_kept(fake_hub, tmp_path: Path) -> None:
    fake_hub.files = FILES
    fake_hub.faults = {"scenes/file 6.bin": ["404"]}
    found = hub.data_set("owner/name", server=QUICK)
    with pytest.raises(UserError, match="404"):
        found.get(sorted(FILES), tmp_path, advance=lambda count: None)
    assert len(list(tmp_path.rglob("*.bin"))) == 6
