"""Every symptom names the command that finds its cause, and every command on the page exists."""

from __future__ import annotations

import re
from pathlib import Path

from handeye.cli import VERBS

PAGE = (Path(__file__).parents[2] / "docs" / "troubleshooting.md").read_text()
FLAGS = (Path(__file__).parents[2] / "docs" / "cli.md").read_text()
SYMPTOMS = ("0 %", "tensor a (291)", "size mismatch", "out of memory", "loss does not fall", "EGL",
            "lower than the published")  # fmt: skip


def verbs(text: str) -> list[str]:
    """As they stand behind `handeye`, one or two words."""
    words = [found.split() for found in re.findall(r"handeye ([a-z-]+(?: [a-z]+)?)", text)]
    return [" ".join(each) if " ".join(each) in VERBS else each[0] for each in words]


def test_every_symptom_names_the_command_that_finds_it() -> None:
    sections = PAGE.split("\n## ")[1:]
    assert len(sections) >= 12
    for section in sections:
        title, _, body = section.partition("\n")
        if title != "Nothing of this":
            found = re.search(r"\*\*Find it:\*\* (.*)", body)
            assert found and verbs(found[1]), title
    titles = [section.partition("\n")[0] for section in sections]
    for symptom in SYMPTOMS:
        assert any(symptom in title for title in titles), symptom


def test_every_command_exists() -> None:
    found = verbs(PAGE)
    assert len(found) >= 40
    assert not [verb for verb in found if verb not in VERBS]


def test_every_flag_exists() -> None:
    found = {flag for flag in re.findall(r"`?(--[a-z-]+)", PAGE)} - {"--force-reinstall", "--shm-size"}
    assert len(found) >= 15
    assert not [flag for flag in found if flag not in FLAGS]
