"""Files that stay open between two reads, a few at a time."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Generic, Protocol, TypeVar


class Closes(Protocol):
    def close(self) -> None: ...


File = TypeVar("File", bound=Closes)

MOST = 8
"""Both cameras' videos of a few episodes."""


class OpenFiles(Generic[File]):
    """The file used longest ago is closed when one too many is open. A forked process opens its own: parent and child
    would share one position in the file."""

    def __init__(self, opener: Callable[[Path], File]) -> None:
        self._opener = opener
        self._files: OrderedDict[Path, File] = OrderedDict()
        self._lock = threading.Lock()
        self._process = os.getpid()

    @contextmanager
    def use(self, path: Path) -> Iterator[File]:
        """One user at a time. A file that raised is closed: where it stands is not known."""
        if self._process != os.getpid():
            self._files, self._lock, self._process = OrderedDict(), threading.Lock(), os.getpid()
        with self._lock:
            file = self._files.pop(path, None) or self._opener(path)
            try:
                yield file
            except BaseException:
                file.close()
                raise
            self._files[path] = file
            while len(self._files) > MOST:
                self._files.popitem(last=False)[1].close()
