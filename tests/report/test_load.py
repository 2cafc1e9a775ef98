"""Every run on a page has a name of its own, as short as it can be."""

from __future__ import annotations

from pathlib import Path

import pytest
from studies import write_run

from handeye.errors import UserError
from handeye.report.config import ReportConfig
from handeye.report.load import by_suite, load


def labels(*folders: Path) -> list[str]:
    return [each.label for each in load(folders)]


def test_one_policy_under_two_protocols_is_named_after_them(tmp_path: Path) -> None:
    a = write_run(tmp_path / "a", ["+"])
    b = write_run(tmp_path / "b", ["+"], protocol={"name": "mine"})
    c = write_run(tmp_path / "c", ["+"], policy="other")
    assert labels(a, b, c) == ["a (handeye-2026)", "a (mine)", "other"]


def test_two_runs_of_one_policy_are_named_after_their_folders(tmp_path: Path) -> None:
    a, b = write_run(tmp_path / "x" / "run", ["+"]), write_run(tmp_path / "y" / "run", ["+"])
    assert labels(a, b) == ["a (x/run)", "a (y/run)"]
    assert labels(a) == ["a"]


def test_runs_on_several_suites_share_name_and_colour(tmp_path: Path) -> None:
    a = write_run(tmp_path / "a", ["+"], policy="p")
    b = write_run(tmp_path / "b", ["+"], policy="p", suite="libero_goal")
    c = write_run(tmp_path / "c", ["+"], policy="q")
    found = load((a, b, c))
    assert [(each.label, each.colour, each.number) for each in found] == [("p", 0, 0), ("p", 0, 1), ("q", 1, 2)]
    assert {suite: len(runs) for suite, runs in by_suite(found).items()} == {"tabletop": 2, "libero_goal": 1}


def test_a_checkpoint_is_named_by_family_and_step(tmp_path: Path) -> None:
    a = write_run(tmp_path / "a", ["+"])
    text = (a / "plan.json").read_text().replace('"name": "a", ', '"family": "tiny", "step": 2000, ')
    (a / "plan.json").write_text(text)
    assert labels(a) == ["tiny at step 2000"]


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ({"runs": ()}, "No evaluation was named"),
        ({"runs": (Path("a"), Path("b/../a"))}, "named twice"),
        ({"runs": (Path("a"),), "embed_mb": -1.0}, "less than nothing"),
        ({"runs": (Path("a"),), "embed_mb": float("nan")}, "less than nothing"),
        ({"runs": (Path("a"),), "margin": 2.0}, "--margin 2 is not between"),
        ({"runs": (Path("a"),), "alpha": 0.0}, "--alpha 0 is not between"),
    ],
)
def test_what_cannot_be_asked(flags: dict, says: str) -> None:
    with pytest.raises(UserError, match=says):
        ReportConfig(**flags)


def test_where_the_page_goes() -> None:
    assert ReportConfig(runs=(Path("a"), Path("b"))).page == Path("a/report.html")
    assert ReportConfig(runs=(Path("a"),), assets=Path("site")).page == Path("site/index.html")
    assert ReportConfig(runs=(Path("a"),), assets=Path("site"), out=Path("p.html")).page == Path("p.html")
