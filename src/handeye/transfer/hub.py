"""A data set of the Hugging Face hub: what it holds, and some of its files. Plain HTTPS, no client library.

$HF_ENDPOINT, $HF_TOKEN, $HF_TOKEN_PATH, $HF_HOME, $HF_HUB_OFFLINE and $HF_HUB_DISABLE_IMPLICIT_TOKEN mean what they
mean to the hub's own client (huggingface_hub/constants.py, utils/_auth.py).
"""

from __future__ import annotations

import json
import os
import re
import threading
import time
import urllib.parse
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from handeye import console
from handeye.errors import UserError
from handeye.transfer.archives import relative
from handeye.transfer.download import Expected, LoginError, Server, StoppedError

WORKERS = 8
"""Files at once: most are small, so their time is waiting."""

_TRUE = {"1", "ON", "YES", "TRUE"}
_MOST_PAGES = 10_000
"""Of a listing, 1000 files each: ten times the hub's own limit of files."""


def endpoint() -> str:
    address = (os.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")
    if not address.startswith(("https://", "http://")):
        raise UserError(
            f"$HF_ENDPOINT is {address!r}.", why="an address starts with https://", fix="correct or unset it"
        )
    return address


def server() -> Server:
    """The hub, with the token of this user if there is one."""
    token, where = _token()
    if not token:
        return Server()
    if not re.fullmatch(r"[!-~]+", token):
        raise UserError(f"{where} holds no token.", why="it has blanks or other characters in it", fix="correct it")
    address = urllib.parse.urlsplit(endpoint())
    if address.scheme == "http" and address.hostname not in ("localhost", "127.0.0.1", "::1"):
        console.warn(f"the token in {where} goes to {address.hostname} unencrypted ($HF_ENDPOINT starts with http://)")
    return Server(secret={"Authorization": f"Bearer {token}"})


def _token() -> tuple[str, str]:
    """(token, where it is from); the environment before the file that `hf auth login` writes."""
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        if token := os.environ.get(name, "").strip():
            return token, f"${name}"
    if os.environ.get("HF_HUB_DISABLE_IMPLICIT_TOKEN", "").upper() in _TRUE:
        return "", ""
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    path = os.environ.get("HF_TOKEN_PATH") or f"{os.environ.get('HF_HOME') or f'{cache}/huggingface'}/token"
    file = Path(os.path.expandvars(path)).expanduser()
    try:
        return file.read_text().strip(), str(file)
    except FileNotFoundError:
        return "", ""
    except (OSError, ValueError) as error:
        raise UserError(
            f"The hub's token in {file} cannot be read.",
            why=str(error),
            fix="correct the file, or set HF_HUB_DISABLE_IMPLICIT_TOKEN=1 to go without a login",
        ) from None


@dataclass(frozen=True, kw_only=True)
class DataSet:
    """`owner/name` at one revision, so that a download that goes on tomorrow gets the same files."""

    name: str
    revision: str
    files: Mapping[str, Expected]
    server: Server
    otherwise: str
    """What a user can do instead of downloading it."""

    def size(self, paths: Sequence[str]) -> int:
        """Bytes of these files together."""
        if missing := [path for path in paths if path not in self.files]:
            raise UserError(
                f"The hub's data set {self.name} lacks {len(missing)} of the files that are needed.",
                why=", ".join(missing[:5]),
                fix=self.otherwise,
            )
        return sum(self.files[path].size for path in paths)

    def get(self, paths: Sequence[str], root: Path, *, advance: Callable[[int], None], workers: int = WORKERS) -> None:
        """Those of `paths` that are not in `root` yet; `advance` is told of bytes. The first error ends it: no further
        file is begun, those under way are finished (after a refused login, left as they are), and all are kept."""
        self.size(paths)
        finishing, stop, failures = threading.Event(), threading.Event(), list[BaseException]()
        server, told = replace(self.server, stop=stop), _Tally(advance)

        def one(path: str) -> None:
            if finishing.is_set():
                return
            try:
                target, expected = root / relative(path, source=self.name), self.files[path]
                if target.is_file() and not expected.problem(target):
                    told.add(expected.size)
                else:
                    server.download(self._url(path), target, expected, advance=told.add)
            except StoppedError:
                pass
            except BaseException as error:
                failures.append(error)
                finishing.set()
                if isinstance(error, LoginError):
                    stop.set()

        with ThreadPoolExecutor(workers) as pool:
            try:
                for job in [pool.submit(one, path) for path in paths]:
                    job.result()
            except BaseException:  # the user's Ctrl-C: the jobs themselves raise nothing
                finishing.set()
                stop.set()
                raise
        told.add(0, now=True)
        if failures:
            raise failures[0]

    def _url(self, path: str) -> str:
        return f"{endpoint()}/datasets/{self.name}/resolve/{self.revision}/{urllib.parse.quote(path)}"


class _Tally:
    """Counts of many threads, handed on ten times a second: a bar costs more to draw than a block to write."""

    def __init__(self, advance: Callable[[int], None]) -> None:
        self.advance, self.lock, self.waiting, self.last = advance, threading.Lock(), 0, 0.0

    def add(self, count: int, *, now: bool = False) -> None:
        with self.lock:
            self.waiting += count
            if self.waiting and (now or time.monotonic() - self.last > 0.1):
                self.advance(self.waiting)
                self.waiting, self.last = 0, time.monotonic()


def data_set(name: str, *, otherwise: str, revision: str = "main") -> DataSet:
    """Ask the hub what `name` holds now; a commit as `revision` asks for that state of it."""
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        raise UserError(f"{name!r} is not a name of the hub.", why="names are OWNER/NAME", fix="correct it")
    if (os.environ.get("HF_HUB_OFFLINE") or os.environ.get("TRANSFORMERS_OFFLINE") or "").upper() in _TRUE:
        raise UserError(
            f"The hub's data set {name} is needed, and $HF_HUB_OFFLINE forbids asking for it.",
            why="" if os.environ.get("HF_HUB_OFFLINE") else "$TRANSFORMERS_OFFLINE counts as well",
            fix=f"unset it; or {otherwise}",
        )
    hub = server()
    api = f"{endpoint()}/api/datasets/{name}"
    asked = f"{api}/revision/{urllib.parse.quote(revision, safe='')}"
    answer, _ = _json(hub, asked)
    commit = answer.get("sha", "") if isinstance(answer, dict) else ""
    if not isinstance(commit, str) or not re.fullmatch(r"[0-9a-f]{40}", commit):
        raise _strange(asked, "no commit in the answer")
    files = _listing(hub, f"{api}/tree/{commit}")
    return DataSet(name=name, revision=commit, files=files, server=hub, otherwise=otherwise)


def _listing(hub: Server, tree: str) -> dict[str, Expected]:
    """Every file, over as many pages as it takes. Of the address of the next page only the query is used, so that the
    token goes nowhere else and a mirror is asked for all of them."""
    files: dict[str, Expected] = {}
    query, seen = "recursive=true", set[str]()
    while query:
        if query in seen or len(seen) == _MOST_PAGES:
            raise _strange(tree, f"its list has no end: page {len(seen) + 1} is '{query[:100]}'")
        seen.add(query)
        entries, query = _json(hub, f"{tree}?{query}")
        try:
            for entry in entries:
                if entry["type"] == "file":
                    files[str(entry["path"])] = _expected(entry)
                elif entry["type"] != "directory":
                    raise ValueError(f"{entry['path']} is a {entry['type']}")
        except (KeyError, TypeError, ValueError) as error:
            raise _strange(tree, f"a file's entry is not understood: {error!r}") from None
    return files


def _expected(entry: Mapping[str, Any]) -> Expected:
    """LFS files, the large ones, have a SHA-256; of the others the hub knows git's own digest."""
    lfs = entry.get("lfs")
    size, oid = (lfs["size"], lfs["oid"]) if lfs else (entry["size"], entry["oid"])
    if type(size) is not int or size < 0 or not re.fullmatch(r"[0-9a-f]{64}" if lfs else r"[0-9a-f]{40}", oid):
        raise ValueError(f"size {size!r}, oid {oid!r}")
    return Expected(size=size, sha256=oid) if lfs else Expected(size=size, git_sha1=oid)


def _json(hub: Server, url: str) -> tuple[Any, str]:
    """The answer, and the query of the next page ("" on the last)."""
    content, headers = hub.read(url)
    try:
        answer = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise _strange(url, f"not JSON: {error}") from None
    following = re.search(r'<([^<>]+)>;\s*rel="next"', headers.get("Link", ""))
    return answer, urllib.parse.urlsplit(following[1]).query if following else ""


def _strange(url: str, why: str) -> UserError:
    return UserError(f"{url} did not answer as a hub does.", why=why, fix="check $HF_ENDPOINT and the network")
