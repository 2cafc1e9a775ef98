"""Published numbers stand beside ours where the question was the same; elsewhere the page says what was not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from studies import drawn, write_run

from handeye.protocols.presets import protocol
from handeye.protocols.published import PUBLISHED
from handeye.report.load import load
from handeye.report.published import published

OFT = protocol("oft-2025").to_json()
ROWS = drawn([0.95] * 10, 50, seed=0)


def tables(*folders: Path) -> list[dict]:
    return published(load(folders))


def test_the_same_protocol_and_all_of_it(tmp_path: Path, page: Callable) -> None:
    run = write_run(tmp_path / "a", ROWS, suite="libero_spatial", protocol=OFT)
    [table] = tables(run)
    theirs = [e for e in PUBLISHED if (e.suite, e.protocol) == ("libero_spatial", "oft-2025")]
    assert len(table["matching"]) == len(theirs) > 1 and not table["part"]
    assert table["matching"][0]["by"] == "its authors" and table["matching"][-1]["differs"]
    others = {e.protocol for e in PUBLISHED if e.suite == "libero_spatial"} - {"oft-2025"}
    assert {group["protocol"] for group in table["apart"]} == others
    words = page(run).sections["published"]
    assert "97.7" in words and "what was published under the same protocol" in words
    assert "replan_steps: 1 theirs, 8 here" in words and "departs: " in words


def test_every_entry_of_the_suite_is_shown_once(tmp_path: Path) -> None:
    for name in ("oft-2025", "handeye-2026"):
        run = write_run(tmp_path / name, ROWS, suite="libero_10", protocol=protocol(name).to_json())
        [table] = tables(run)
        rows = table["matching"] + [row for group in table["apart"] for row in group["rows"]]
        assert len(rows) == sum(entry.suite == "libero_10" for entry in PUBLISHED)
        assert all(group["reasons"] for group in table["apart"])


def test_our_default_is_comparable_with_nothing_and_says_why(tmp_path: Path, page: Callable) -> None:
    run = write_run(tmp_path / "a", ROWS, suite="libero_goal")
    [table] = tables(run)
    assert not table["matching"]
    reasons = {group["protocol"]: group["reasons"] for group in table["apart"]}
    assert "stream: published theirs, episode here" in reasons["openvla-2024"]
    assert "seed: 7 theirs, 0 here" in reasons["openpi-2025"]
    assert "Nothing was published that may stand beside them." in page(run).sections["published"]


def test_a_part_of_the_question_is_another_question(tmp_path: Path, page: Callable) -> None:
    run = write_run(
        tmp_path / "a",
        [row[:5] for row in ROWS[:3]],
        suite="libero_spatial",
        protocol=OFT,
        simulator={"supported": False},
    )
    [table] = tables(run)
    assert not table["matching"]
    assert table["part"] == [
        "3 of 10 tasks were evaluated",
        "5 initial states from 0 to 4, not the first 50",
        "MuJoCo 3.3.2, outside the range that was compared",
    ]
    words = page(run).sections["published"]
    assert "Not comparable with anything published, whatever the protocol: 3 of 10 tasks" in words


def test_runs_of_one_protocol_share_a_table(tmp_path: Path) -> None:
    a = write_run(tmp_path / "a", ROWS, suite="libero_spatial", protocol=OFT)
    b = write_run(
        tmp_path / "b", [row[:30].ljust(50) for row in ROWS], suite="libero_spatial", protocol=OFT, policy="b"
    )
    c = write_run(tmp_path / "c", ROWS, suite="libero_spatial", policy="c")
    found = tables(a, b, c)
    assert [[run["label"] for run in table["ours"]] for table in found] == [["a", "b"], ["c"]]
    assert found[0]["ours"][1]["missing"] == 200


def test_suites_nobody_published_on(tmp_path: Path, page: Callable) -> None:
    run = write_run(tmp_path / "a", ["+"])
    assert tables(run) == []
    assert "Nobody we know of published rates on tabletop." in page(run).sections["published"]
