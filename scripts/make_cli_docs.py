"""Write docs/cli.md: every verb's flags, from the dataclasses that `--help` reads. A test checks that it is fresh."""

from __future__ import annotations

import contextlib
import io
import os
from pathlib import Path

os.environ.update(COLUMNS="100", NO_COLOR="1", TERM="dumb")
PAGE = Path(__file__).parents[1] / "docs" / "cli.md"


def page() -> str:
    from handeye.cli import VERBS, main

    parts = ["# Every flag\n\nMade by `make docs` from what `handeye VERB --help` prints.\n"]
    for name, verb in VERBS.items():
        words = name.split()
        presets = ["tiny_tabletop", "paligemma_xvr"] if name == "train" else []
        for extra in [[], *[[preset] for preset in presets]]:
            out = io.StringIO()
            with contextlib.redirect_stdout(out), contextlib.suppress(SystemExit):
                main([*words, *extra, "--help"])
            title = " ".join(["handeye", name, *extra])
            text = "\n".join(line.rstrip() for line in out.getvalue().strip().splitlines())
            about = f"{_sentence(verb.about)}\n\n" if not extra else ""
            parts.append(f"## {title}\n\n{about}```\n{text}\n```\n")
    return "\n".join(parts)


def _sentence(about: str) -> str:
    return about[0].upper() + about[1:] + ("" if about.endswith("?") else ".")


if __name__ == "__main__":
    PAGE.write_text(page())
