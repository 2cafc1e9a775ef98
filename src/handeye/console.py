"""Printing is this module's business: a bar for a person, a line a minute for a log file, tables, and nothing else."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Literal

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.table import Table

console = Console(highlight=False)
errors = Console(stderr=True, highlight=False)


def say(text: str = "") -> None:
    console.print(text, markup=False, soft_wrap=True)


def warn(text: str) -> None:
    errors.print(f"warning: {text}", style="yellow", markup=False, soft_wrap=True)


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """The first column is text, the others are numbers and align right."""
    made = Table(title=title or None, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for index, column in enumerate(columns):
        made.add_column(column, justify="left" if index == 0 else "right")
    for row in rows:
        made.add_row(*(str(cell) for cell in row))
    console.print(made)


@contextmanager
def progress(
    label: str, total: int, *, done: int = 0, unit: Literal["", "bytes"] = ""
) -> Iterator[Callable[..., None]]:
    """Yields `advance(count=1, note="")`. On a terminal a bar; elsewhere one line a minute and one at the end. Goes to
    stderr: what a verb prints with --json stays readable by programs."""
    if errors.is_terminal:
        bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            *((DownloadColumn(), TransferSpeedColumn()) if unit else (MofNCompleteColumn(),)),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=errors,
        )
        with bar:
            task = bar.add_task(label, total=total, completed=done, note="")
            yield lambda count=1, note="": bar.update(task, advance=count, note=note)
        return
    last_note, said = "", time.monotonic()

    def advance(count: int = 1, note: str = "") -> None:
        nonlocal done, last_note, said
        done, last_note = done + count, note or last_note
        if time.monotonic() - said > 60 or done == total:
            said = time.monotonic()
            shown = f"{size(done)} of {size(total)}" if unit else f"{done}/{total}"
            errors.print(f"{label}: {shown} {last_note}".rstrip(), markup=False, soft_wrap=True)
            sys.stderr.flush()

    yield advance


def size(count: int) -> str:
    """Bytes for people, in the units of disks and hubs: `940 bytes`, `2.1 MB`, `69.9 GB`."""
    for unit, scale in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= scale:
            return f"{count / scale:.1f} {unit}"
    return f"{count} bytes"
