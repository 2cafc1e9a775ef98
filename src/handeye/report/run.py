"""`handeye report`: evaluations in, one HTML page out."""

from __future__ import annotations

from pathlib import Path

from handeye.console import say, size
from handeye.records import write_bytes
from handeye.report.config import ReportConfig
from handeye.report.load import load
from handeye.report.page import render


def run(config: ReportConfig) -> Path:
    """Returns the page."""
    text = render(
        load(config.runs),
        page=config.page,
        embed_mb=config.embed_mb,
        assets=config.assets,
        margin=config.margin,
        alpha=config.alpha,
    )
    write_bytes(config.page, text.encode(errors="replace"))
    say(f"{config.page} ({size(config.page.stat().st_size)})")
    return config.page
