"""Recipes are not run by the tests: at least what they import is there."""

from __future__ import annotations

import ast
from importlib import import_module
from pathlib import Path

import pytest

from handeye.data.fetch.repositories import REPOSITORIES

RECIPES = sorted((Path(__file__).parents[2] / "recipes").glob("*.py"))


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.name)
def test_what_a_recipe_takes_from_the_program_is_there(recipe: Path) -> None:
    """Also inside functions, which a mere import of the recipe would not reach."""
    for node in ast.walk(ast.parse(recipe.read_text())):
        if not isinstance(node, ast.ImportFrom) or not (node.module or "").startswith("handeye"):
            continue
        module = import_module(str(node.module))
        for name in node.names:
            if not hasattr(module, name.name):
                import_module(f"{node.module}.{name.name}")


def test_demonstrations_are_where_fetch_puts_them() -> None:
    """`handeye fetch demos --out data` makes a folder of the data set's name in it."""
    (repository,) = (each for each in REPOSITORIES if each.kind == "rlds")
    (patterns,) = {tuple(p.replace(suite, "${suite}") for p in found) for suite, found in repository.suites.items()}
    folders = {f"data/{repository.name}/{pattern.split('/')[0]}" for pattern in patterns}
    recipe = (RECIPES[0].parent / "fine_tune_openvla.sh").read_text()
    assert any(f'data="{folder}"' in recipe for folder in folders), folders


def test_there_are_recipes() -> None:
    assert len(RECIPES) > 10
