"""The whole arrow on a CPU: demonstrations, training, evaluation, baseline, page; and nothing is done twice."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from handeye import quickstart
from handeye.errors import UserError
from handeye.quickstart import QuickstartConfig


@pytest.mark.slow
def test_everything_on_a_cpu(tmp_path: Path) -> None:
    config = QuickstartConfig(out=tmp_path / "q", tasks=(1,), demos=4, steps=50, episodes=2)
    page = quickstart.run(config)
    text = page.read_text()
    assert "put the green cube on the blue plate" in text
    films = sorted((config.out / "eval" / "videos").glob("*.mp4"))
    assert len(films) == 2
    assert all(base64.b64encode(film.read_bytes()).decode() in text for film in films), "videos travel inside the page"
    rates = {}
    for name in ("eval", "eval-zero"):
        summary = json.loads((config.out / name / "summary.json").read_text())
        assert summary["complete"] and summary["rate"]["episodes"] == 2 and summary["errors"] == 0
        rates[name] = summary["rate"]["rate"]
    assert rates["eval-zero"] == 0.0
    kept = {path: path.stat().st_mtime_ns for path in config.out.rglob("*.safetensors")}
    kept |= {path: path.stat().st_mtime_ns for path in config.out.rglob("*.hdf5")}
    assert len(kept) >= 2
    quickstart.run(config)
    assert {path: path.stat().st_mtime_ns for path in kept} == kept, "a finished stage is not repeated"


def test_numbers_that_make_no_sense_are_refused() -> None:
    with pytest.raises(UserError, match="--demos 0"):
        QuickstartConfig(demos=0)
