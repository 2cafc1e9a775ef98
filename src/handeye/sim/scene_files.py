"""Which of LIBERO's scene files its tasks need: the models they name, and every mesh and texture those refer to."""

from __future__ import annotations

import posixpath
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterable
from pathlib import Path

from handeye.errors import UserError
from handeye.records import sha256_file, sha256_json

FAMILIES = ("stable_hope_objects", "stable_scanned_objects", "turbosquid_objects")
"""Folders that hold a category N as N/N.xml; articulated_objects/N.xml is the fourth place."""

ARENAS = {
    "libero_tabletop_manipulation": "scenes/libero_tabletop_base_style.xml",
    "libero_kitchen_tabletop_manipulation": "scenes/libero_kitchen_tabletop_base_style.xml",
    "libero_study_tabletop_manipulation": "scenes/libero_study_base_style.xml",
    "libero_living_room_tabletop_manipulation": "scenes/libero_living_room_tabletop_base_style.xml",
    "libero_floor_manipulation": "scenes/libero_floor_base_style.xml",
}
"""Problem class -> its arena (facts 1.2)."""

STYLES = (
    "textures/light-gray-floor-tile.png",
    "textures/gray_ceramic_tile.png",
    "textures/seamless_wood_planks_floor.png",
    "textures/light-gray-plaster.png",
    "textures/yellow_linen_wall_texture.png",
)
"""Floors and walls that the problem classes put in place of what the arenas' files name (facts 1.2)."""

MODELS_SHA256 = "f1cb7a510f2a24edcf617baab67126a6f873b7f3785330dbdda22b40d68baa00"
"""`digest` of the needed models as published: what moves and collides is written there, not in meshes."""

_POINTER = b"version https://git-lfs"


def models(categories: Iterable[str], exists: Callable[[str], bool]) -> list[str]:
    """The files that describe these categories and all arenas; ValueError names one that is in none of the places."""
    found = list(ARENAS.values())
    for category in categories:
        places = [f"{family}/{category}/{category}.xml" for family in FAMILIES]
        places.append(f"articulated_objects/{category}.xml")
        there = [place for place in places if exists(place)]
        if not there:
            raise ValueError(f"there is no model of {category}: none of {', '.join(places)}")
        found += there
    return found


def references(model: str, text: str | bytes) -> set[str]:
    """Files that a model names, as paths from the same root as its own. ValueError where one leaves the root."""
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise ValueError(f"{model} is not XML: {error}") from None
    named = {element.get("file", "") for element in root.iter()} - {""}
    paths = {posixpath.normpath(posixpath.join(posixpath.dirname(model), name)) for name in named}
    if outside := [path for path in paths if path.startswith(("..", "/"))]:
        raise ValueError(f"{model} refers to {outside[0]}, outside the folder")
    return paths


def check(root: Path, categories: Iterable[str]) -> list[str]:
    """All needed files of a folder, sorted. UserError lists what is missing or was never really downloaded."""
    try:
        needed = set(models(categories, lambda path: (root / path).is_file())) | set(STYLES)
        for model in sorted(path for path in needed if path.endswith(".xml") and (root / path).is_file()):
            needed |= references(model, (root / model).read_bytes())
    except ValueError as error:
        raise _incomplete(root, str(error)) from None
    wrong = [path for path in sorted(needed) if not _is_there(root / path)]
    if wrong:
        raise _incomplete(
            root,
            f"{len(wrong)} of {len(needed)} files are missing, empty or only Git LFS pointers: "
            + ", ".join(wrong[:5])
            + (", ..." if len(wrong) > 5 else ""),
        )
    return sorted(needed)


def digest(root: Path, files: Iterable[str]) -> str:
    """One number for these files' names and contents."""
    return sha256_json({path: sha256_file(root / path) for path in files})


def _is_there(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            start = file.read(len(_POINTER))
    except OSError:
        return False
    return bool(start) and start != _POINTER


def _incomplete(root: Path, why: str) -> UserError:
    return UserError(
        f"{root} does not hold LIBERO's scene files.",
        why=why,
        fix="give the folder that contains scenes/ and stable_hope_objects/, or let `handeye fetch libero` download it",
    )
