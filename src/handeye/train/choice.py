"""A preset as the command line asks for it: its name first, then what differs. Imports nothing heavy.

Flags are parsed over a preset's values, so a flag counts where it differs from them. Two things change those values
before: an env file (vqa_env.py), and for VGGT what it starts from.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

from handeye.errors import unknown
from handeye.policy.address import folder_and_options
from handeye.records import read_json
from handeye.train.families.config import VggtConfig
from handeye.train.presets import PRESETS, VGGT_FACTORS, VGGT_LANGUAGE
from handeye.train.vqa_env import env_file, with_env
from handeye.train.vqa_presets import PRESETS_VQA


def choice(words: Sequence[str] = ()) -> Any:
    """The type with which `words` are parsed: a preset's name, then the flags that differ from it."""
    import tyro

    known = {name: preset.make() for name, preset in PRESETS.items()} | {n: make() for n, make in PRESETS_VQA.items()}
    name = words[0] if words else "--help"
    if name not in known and not name.startswith("-"):
        raise unknown("preset", name, known, fix="`handeye train --help` says what each is")
    if isinstance(preset := known.get(name), VggtConfig):
        known[name] = _vggt_vla(preset, words)
    if name in PRESETS_VQA and (path := env_file(words)):
        known[name] = with_env(PRESETS_VQA[name](), path)
    presets = tyro.extras.subcommand_type_from_defaults(
        known,
        descriptions={name: preset.about for name, preset in PRESETS.items()}
        | {name: make.__doc__ or "" for name, make in PRESETS_VQA.items()},
    )
    return Annotated[presets, tyro.conf.arg(name="")]


def _vggt_vla(preset: VggtConfig, words: Sequence[str]) -> VggtConfig:
    """The preset as the command line leaves it to be: a policy to start from takes the place of both halves, and the
    factors are those of what is then trained. Flags are parsed over it, so what they say themselves is compared."""
    plain = [word.replace("_", "-") if word.startswith("--") and "=" not in word else word for word in words]
    named = [second for first, second in pairwise([*plain, ""]) if first == "--start-from"]
    named += [word.partition("=")[2] for word in words if word.startswith(("--start-from=", "--start_from="))]
    start = Path(named[-1]) if named and named[-1] not in ("", "None") else None
    if start is not None:
        preset = replace(preset, start_from=start, vggt=None, qwen=None)
    if "--learning-rate-of" in plain:  # tyro has no flag for a dict as a whole where a default fills it
        return replace(preset, learning_rate_of={})
    if not preset.learning_rate_of:
        return preset
    factors = VGGT_FACTORS["ours" if start is None else _form(start)]
    trains_language = "--no-freeze-language" in plain
    return replace(preset, learning_rate_of={**factors, **(VGGT_LANGUAGE if trains_language else {})})


def _form(start: Path) -> str:
    """Of a policy's checkpoint, by its manifest alone; what has none and is no run is AtlasVLA's file."""
    folder = Path(folder_and_options(str(start))[0])
    found = [path for path in (folder / "final" / "manifest.json", folder / "manifest.json") if path.is_file()]
    if not found:
        return "reference"
    config = read_json(found[0], what="a checkpoint's manifest").get("config")
    return str(config["form"]) if isinstance(config, dict) and config.get("form") in VGGT_FACTORS else "ours"
