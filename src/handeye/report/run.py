"""`handeye report`: evaluations in, one HTML page out."""

from __future__ import annotations

from pathlib import Path

from handeye.console import say
from handeye.records import write_bytes
from handeye.report.config import ReportConfig
from handeye.report.html import render
from handeye.report.load import load


def run(config: ReportConfig) -> Path:
    """Returns the page."""
    runs = load(config.runs)
    page = config.out or config.runs[0] / "report.html"
    write_bytes(page, render(runs, page=page, embed_mb=config.embed_mb).encode())
    say(f"{page} ({page.stat().st_size / 1e6:.1f} MB)")
    return page
