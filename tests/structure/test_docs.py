"""Documentation that cannot rot: flags from --help, a file map of files that exist, links that lead somewhere."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from handeye.cli import VERBS
from handeye.train.presets import PRESETS

REPOSITORY = Path(__file__).parents[2]
README = (REPOSITORY / "README.md").read_text()


def test_the_flags_page_is_fresh() -> None:
    """`make docs` writes it. In a process of its own: it sets the width of the terminal."""
    code = "import make_cli_docs as m; print(m.page() == m.PAGE.read_text())"
    scripts = REPOSITORY / "scripts"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=scripts, capture_output=True, text=True, timeout=120, check=True
    )
    assert done.stdout.strip() == "True", "docs/cli.md is stale: run `make docs`"


def test_the_file_map_names_files_that_exist() -> None:
    section = README.split("## File map")[1].split("\n## ")[0]
    rows = [row.split("|")[1] for row in section.splitlines() if row.startswith("| `")]
    assert len(rows) >= 15
    for row in rows:
        folder = ""
        for name in re.findall(r"`([^`]+)`", row):
            folder = name.rpartition("/")[0] or folder  # `sim/bddl.py`, `catalogue.py`: the same folder
            roots = [REPOSITORY, REPOSITORY / folder, REPOSITORY / "src/handeye", REPOSITORY / "src/handeye" / folder]
            assert any(any(root.glob(name.rstrip("/"))) for root in roots), name


def test_every_package_is_in_the_file_map() -> None:
    for folder in (REPOSITORY / "src" / "handeye").iterdir():
        if folder.is_dir() and folder.name != "__pycache__":
            assert f"`{folder.name}/" in README, folder.name


def test_links_lead_somewhere() -> None:
    pages = [REPOSITORY / "README.md", REPOSITORY / "CONTRIBUTING.md", *(REPOSITORY / "docs").rglob("*.md")]
    assert len(pages) >= 8
    for page in pages:
        for target in re.findall(r"\]\(([^)#]+)", page.read_text()):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.name} -> {target}"


def test_every_verb_is_on_the_flags_page_and_every_preset_builds() -> None:
    page = (REPOSITORY / "docs" / "cli.md").read_text()
    for verb in VERBS:
        assert f"## handeye {verb}\n" in page
    assert len(PRESETS) >= 5
    for name, preset in PRESETS.items():
        assert preset.make().family, name


def test_recipes_parse_and_call_verbs_that_exist() -> None:
    recipes = sorted((REPOSITORY / "recipes").glob("*.sh"))
    assert recipes
    for recipe in recipes:
        subprocess.run(["bash", "-n", str(recipe)], check=True)
        for line in recipe.read_text().splitlines():
            if line.startswith("handeye "):
                words = line.split()
                assert words[1] in VERBS or " ".join(words[1:3]) in VERBS, line
