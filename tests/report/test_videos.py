"""Videos inside the page, beside it, or linked: each is found, and the page says which."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from studies import write_run

from handeye.errors import UserError
from handeye.report.load import load
from handeye.report.videos import shelve


def test_all_inside(tmp_path: Path, filmed: Callable, page: Callable) -> None:
    shown = page(filmed(write_run(tmp_path / "a", ["+-", "--"])))
    assert {episode["video"]["inside"] for episode in shown.episodes.values()} == shown.inside
    assert len(shown.inside) == 4 and "All 4 videos are inside this page" in shown.text
    assert shown.source.count("<script type") == 5, "each once"


def test_past_the_limit_they_are_linked_with_a_word(
    tmp_path: Path, film: bytes, filmed: Callable, page: Callable
) -> None:
    a = filmed(write_run(tmp_path / "a #1", ["+" * 6 + "--"]))
    shown = page(a, out=tmp_path / "pages" / "page.html", embed_mb=3.5 * len(film) / 1e6)
    videos = {id_: episode["video"] for id_, episode in shown.episodes.items()}
    linked = [video["href"] for video in videos.values() if "href" in video]
    assert len(linked) == 5 and len(shown.inside) == 3
    assert all(
        (tmp_path / "pages" / link.replace("%20", " ").replace("%23", "#")).resolve().is_file() for link in linked
    )
    assert all("inside" in videos[id_] for id_, episode in shown.episodes.items() if episode["outcome"] == "failure")
    assert "3 videos are inside this page" in shown.text and "the other 5 are linked" in shown.text


def test_what_sets_runs_apart_goes_inside_before_other_successes(tmp_path: Path, film: bytes, filmed: Callable) -> None:
    a = filmed(write_run(tmp_path / "a", ["+++++"]))
    [shown] = load((a,))
    last = shown.id(shown.run.planned[-1])
    shelf = shelve([shown], page=tmp_path / "page.html", limit=1.5 * len(film) / 1e6, first={last})
    assert list(shelf.inside) == ["film0"] and shelf.found[last] == {"inside": "film0"} and shelf.linked == 4


def test_a_folder_of_copies_can_be_moved_away(tmp_path: Path, film: bytes, filmed: Callable, page: Callable) -> None:
    a = filmed(write_run(tmp_path / "a", ["+-"], policy="ws://host:8000"))
    b = filmed(write_run(tmp_path / "b", ["--"], policy="b"), "failure")
    shown = page(a, b, assets=tmp_path / "site")
    links = [episode["video"]["href"] for episode in shown.episodes.values()]
    assert not shown.inside and len(set(links)) == 4
    assert "loads its 4 videos from the folder beside it" in shown.text
    moved = (tmp_path / "site").rename(tmp_path / "elsewhere")
    assert all((moved / link).read_bytes() == film for link in links)
    assert all(not link.startswith((".", "/")) for link in links)


def test_copies_are_kept_and_renewed(tmp_path: Path, film: bytes, filmed: Callable, page: Callable) -> None:
    a = filmed(write_run(tmp_path / "a", ["+-"]))
    page(a, assets=tmp_path / "site")
    [first, second] = sorted((tmp_path / "site" / "videos").rglob("*.mp4"))
    before = first.stat().st_mtime_ns
    second.write_bytes(b"half")
    page(a, assets=tmp_path / "site")
    assert first.stat().st_mtime_ns == before and second.read_bytes() == film


def test_some_or_no_videos(tmp_path: Path, filmed: Callable, page: Callable) -> None:
    a = filmed(write_run(tmp_path / "a", ["+-"]), "failure")
    shown = page(a)
    assert [episode["video"] is not None for episode in shown.episodes.values()] == [False, True]
    assert "if it has one (a dot)" in shown.text
    assert "These runs left no videos" in page(write_run(tmp_path / "b", ["+-"])).text


def test_a_folder_that_cannot_be_written(tmp_path: Path, filmed: Callable, page: Callable) -> None:
    a = filmed(write_run(tmp_path / "a", ["+"]))
    (tmp_path / "site").write_text("a file")
    with pytest.raises((UserError, NotADirectoryError, FileExistsError)):
        page(a, assets=tmp_path / "site")
