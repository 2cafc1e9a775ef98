"""Folders elsewhere: `s3://BUCKET/runs/a`, `gs://`, `hf://`, `sftp://`, `file://` through fsspec, `https://` read only.

Everything in the program works on folders of this machine. A folder elsewhere has a copy here, under
`$HANDEYE_HOME/remote`: `local` finds or makes it, `Mirror` sends what changes in it back. A URL is written where a
folder is asked for; `Path` folds its two slashes into one, so both spellings are understood.
"""

from __future__ import annotations

import hashlib
import re
import threading
import urllib.parse
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

from handeye import console, paths
from handeye.errors import UserError
from handeye.records import write_bytes
from handeye.transfer.archives import relative
from handeye.transfer.download import AbsentError, Server

SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/{1,2}(?=.)")
"""At least two letters: `C:/` is a disk."""

TRIES = 5
"""Of sending a file, one after the other."""

PAUSE = 1.0
"""Seconds before the second try; doubles with each."""


def url_of(place: Path | str) -> str | None:
    """The URL that is meant; None for a folder of this machine, which wins where both could be meant."""
    found = SCHEME.match(str(place))
    if found is None or Path(place).exists():
        return None
    rest = str(place)[found.end() :]
    slash = "/" if found[1] in ("file", "local") and not rest.startswith("/") else ""
    return f"{found[1].lower()}://{slash}{rest}".rstrip("/")


def copy_of(url: str, purpose: Literal["read", "written"] = "read") -> Path:
    """Where the copy here lies, whether there is one or not. What is written has one of its own, so that nobody who
    reads it meanwhile fetches the older state over it."""
    words = re.sub(r"[^A-Za-z0-9_.-]+", "-", url)[-80:].strip("-.")
    return paths.home() / "remote" / purpose / f"{words}-{hashlib.sha256(url.encode()).hexdigest()[:8]}"


@runtime_checkable
class Folder(Protocol):
    """A folder elsewhere. Names are relative, with slashes. UserError where it cannot be reached."""

    def names(self) -> dict[str, int]:
        """Every file below it, with its size in bytes."""
        ...

    def read(self, name: str) -> bytes | None:
        """None where there is no such file."""
        ...

    def fetch(self, name: str, path: Path) -> bool:
        """Copy one file, whole or not at all; False where there is none."""
        ...

    def write(self, name: str, content: bytes) -> None:
        """Whole or not at all."""
        ...


def elsewhere(url: str) -> Folder:
    if url.startswith(("http://", "https://")):
        return _Web(url)
    try:
        import fsspec
    except ImportError:
        raise UserError(f"{url} needs fsspec.", fix="pip install 'handeye[remote]'") from None
    try:
        system, root = fsspec.core.url_to_fs(url)
    except (ImportError, ValueError) as error:  # the scheme's own package is missing, or nobody knows the scheme
        raise UserError(
            f"{url} cannot be reached.", why=str(error), fix="install the package named above, or check the URL"
        ) from None
    return _Stored(url, system, root.rstrip("/"))


@dataclass(frozen=True)
class _Stored:
    """Through fsspec."""

    url: str
    system: Any
    root: str

    def names(self) -> dict[str, int]:
        found = self._asked(lambda: self.system.find(self.root, detail=True), missing={})
        return {_within(self.root, path, self.url): int(entry["size"] or 0) for path, entry in found.items()}

    def read(self, name: str) -> bytes | None:
        content: bytes | None = self._asked(lambda: self.system.cat_file(f"{self.root}/{name}"), missing=None)
        return content

    def fetch(self, name: str, path: Path) -> bool:
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{path.name}.part")

        def get() -> bool:
            self.system.get_file(f"{self.root}/{name}", str(part))
            part.replace(path)
            return True

        try:
            return bool(self._asked(get, missing=False))
        finally:
            part.unlink(missing_ok=True)

    def write(self, name: str, content: bytes) -> None:
        def put() -> None:
            path = f"{self.root}/{name}"
            self.system.makedirs(path.rpartition("/")[0], exist_ok=True)
            with self.system.transaction, self.system.open(path, "wb") as file:  # appears when it is complete
                file.write(content)

        self._asked(put, missing=None)

    def _asked(self, ask: Callable[[], Any], *, missing: Any) -> Any:
        """Storage libraries raise whatever they like."""
        try:
            self.system.invalidate_cache()
            return ask()
        except FileNotFoundError:
            return missing
        except Exception as error:
            raise UserError(
                f"{self.url} cannot be used.",
                why=f"{type(error).__name__}: {error}",
                fix="check the URL, the network and the credentials of that storage",
            ) from error


@dataclass(frozen=True)
class _Web:
    """Over HTTP: files can be asked for by name, and nobody can list or write them."""

    url: str
    server: Server = field(default_factory=Server)

    def names(self) -> dict[str, int]:
        raise UserError(
            f"{self.url} cannot be listed.",
            why="a web server does not say which files it has",
            fix="download the folder, or name a storage such as s3:// or hf://",
        )

    def read(self, name: str) -> bytes | None:
        try:
            return self.server.read(f"{self.url}/{urllib.parse.quote(name)}")[0]
        except AbsentError:
            return None

    def fetch(self, name: str, path: Path) -> bool:
        content = self.read(name)
        if content is not None:
            write_bytes(path, content)
        return content is not None

    def write(self, name: str, content: bytes) -> None:
        raise UserError(f"Nothing can be written to {self.url}.", why="HTTP is read only", fix="name a storage URL")


def tree(url: str) -> Path:
    """A copy of everything below `url`, or of the one file that it is. What is here in the same size is not fetched
    again: to have it fetched again, delete the copy."""
    far, copy = elsewhere(url), copy_of(url)
    found = far.names()
    if not found:
        raise UserError(f"There is nothing at {url}.", fix="check the URL")
    wanted = {name: size for name, size in found.items() if not _here(copy / relative(name, source=url), size)}
    if wanted:
        console.say(f"{url}: {len(wanted)} files, {console.size(sum(wanted.values()))} -> {copy}")
    with console.progress("fetching", len(wanted)) as advance:
        for name in wanted:
            far.fetch(name, copy / relative(name, source=url))
            advance()
    return copy


def files(url: str, names: Sequence[str]) -> Path:
    """A copy of these files alone, fetched anew. Those that are not there are not in the copy either."""
    far, copy = elsewhere(url), copy_of(url)
    for name in names:
        content = far.read(name)
        if content is None:
            (copy / name).unlink(missing_ok=True)
        else:
            write_bytes(copy / name, content)
    return copy


class Mirror:
    """Sends files of a folder here to the same names elsewhere, in a thread of its own, so that slow storage holds
    nobody up. A file that changes again before it was sent is sent once."""

    def __init__(self, url: str, folder: Path) -> None:
        self._far, self._folder, self.url = elsewhere(url), folder, url
        self._changed: dict[str, None] = {}
        self._bell = threading.Condition()
        self._closing = False
        self._trouble: UserError | OSError | None = None
        self._thread = threading.Thread(target=self._work, name="mirror", daemon=True)
        self._thread.start()

    def send(self, *names: str) -> None:
        """These have changed. Returns at once."""
        with self._bell:
            self._changed |= dict.fromkeys(names)
            self._bell.notify()

    def close(self) -> None:
        """Waits until everything has arrived; UserError if it could not."""
        with self._bell:
            self._closing = True
            self._bell.notify()
        self._thread.join()
        if self._trouble is not None:
            raise UserError(
                f"{', '.join(self._changed)} could not be sent to {self.url}.",
                why=_why(self._trouble),
                fix=f"everything is in {self._folder}; run the same command again and it is sent",
            )

    def _work(self) -> None:
        failed = 0
        while True:
            with self._bell:
                while not self._changed and not self._closing:
                    self._bell.wait()
                if not self._changed:
                    return
                name = next(iter(self._changed))
                del self._changed[name]
            try:
                self._far.write(name, _complete(self._folder / name))
                failed, self._trouble = 0, None
            except (UserError, OSError) as error:
                failed, self._trouble = failed + 1, error
                with self._bell:
                    self._changed.setdefault(name)
                    if self._closing and failed >= TRIES:
                        return
                    if failed == TRIES:
                        console.warn(f"{self.url} takes no files ({_why(error)}): going on here, and trying again")
                    self._bell.wait(PAUSE * 2 ** min(failed - 1, TRIES))


def _why(trouble: UserError | OSError) -> str:
    return trouble.why or trouble.what if isinstance(trouble, UserError) else str(trouble)


def _complete(path: Path) -> bytes:
    """Of a file of lines, those that are written to their end."""
    content = path.read_bytes()
    return content[: content.rfind(b"\n") + 1] if path.suffix == ".jsonl" else content


def _here(path: Path, size: int) -> bool:
    return path.is_file() and path.stat().st_size == size


def _within(root: str, path: str, url: str) -> str:
    """A file's name below the root; the root itself is a file where a URL names one."""
    if path.rstrip("/") == root:
        return root.rpartition("/")[2]
    if not path.startswith(root + "/"):
        raise UserError(f"{url} lists {path}, which is not below it.", fix="name the folder itself")
    return path[len(root) + 1 :]
