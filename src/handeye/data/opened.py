"""Files that stay open between two reads, a few at a time: a loader reads single frames from everywhere."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar


class Closes(Protocol):
    def close(self) -> None: ...


File = TypeVar("File", bound=Closes)

MOST = 32
"""Files of one source that are open at a time. A suite of LIBERO has ten HDF5 files or 32 shards; a process may have
1,024 open by default."""


class OpenFiles(Generic[File]):
    """The file used longest ago is closed when one too many is open; all are when this goes. A process that was forked,
    or got this by pickle, opens its own: parent and child would share one position in the file."""

    def __init__(self, opener: Callable[[Path], File], most: int = MOST) -> None:
        self._opener, self._most = opener, most
        self._fresh()

    def _fresh(self) -> None:
        self._files: OrderedDict[Path, File] = OrderedDict()
        self._lock = threading.Lock()
        self._process = os.getpid()

    def __getstate__(self) -> dict[str, Any]:
        return {"_opener": self._opener, "_most": self._most}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._opener, self._most = state["_opener"], state["_most"]
        self._fresh()

    @contextmanager
    def use(self, path: Path) -> Iterator[File]:
        """One user at a time. A file that raised is closed: where it stands is not known."""
        if self._process != os.getpid():
            self._fresh()
        with self._lock:
            file = self._files.pop(path, None)
            if file is None:
                file = self._opener(path)
            try:
                yield file
            except BaseException:
                file.close()
                raise
            self._files[path] = file
            while len(self._files) > self._most:
                self._files.popitem(last=False)[1].close()

    def close(self) -> None:
        """Reading again opens again."""
        if self._process == os.getpid():
            with self._lock:
                while self._files:
                    self._files.popitem()[1].close()

    def __del__(self) -> None:
        if hasattr(self, "_files"):
            self.close()
