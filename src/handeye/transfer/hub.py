"""A data set of the Hugging Face hub: what it holds, and some of its files. Plain HTTPS, no client library.

$HF_ENDPOINT, $HF_TOKEN and $HF_HUB_OFFLINE mean what they mean to the hub's own client.
"""

from __future__ import annotations

import json
import os
import re
import urllib.parse
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from handeye.errors import UserError
from handeye.transfer.archives import relative
from handeye.transfer.download import Expected, Server

_THREADS = 8
"""Most files are small, so their time is waiting."""


def endpoint() -> str:
    address = (os.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")
    if not address.startswith(("https://", "http://")):
        raise UserError(
            f"$HF_ENDPOINT is {address!r}.", why="an address starts with https://", fix="correct or unset it"
        )
    return address


def _server() -> Server:
    token = os.environ.get("HF_TOKEN", "").strip()
    return Server(secret={"Authorization": f"Bearer {token}"} if token else {})


@dataclass(frozen=True, kw_only=True)
class DataSet:
    """`owner/name` at one revision, so that a download that goes on tomorrow gets the same files."""

    name: str
    revision: str
    files: dict[str, Expected]
    server: Server

    def get(self, paths: Sequence[str], root: Path, *, advance: Callable[[int], None]) -> None:
        """Those of `paths` that are not there yet. An error names the first file that failed; the others are kept."""

        def one(path: str) -> None:
            target, expected = root / relative(path, source=self.name), self.files[path]
            if not target.is_file() or expected.problem(target):
                self.server.download(self._url(path), target, expected)
            advance(1)

        if missing := [path for path in paths if path not in self.files]:
            raise UserError(
                f"The hub's data set {self.name} lacks {len(missing)} files that LIBERO's scenes need.",
                why=", ".join(missing[:5]),
                fix="use a complete copy: `handeye fetch libero --assets DIR`",
            )
        with ThreadPoolExecutor(_THREADS) as pool:
            jobs = [pool.submit(one, path) for path in paths]
            try:
                for job in jobs:
                    job.result()
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise

    def _url(self, path: str) -> str:
        return f"{endpoint()}/datasets/{self.name}/resolve/{self.revision}/{urllib.parse.quote(path)}"


def data_set(name: str, *, revision: str = "main", server: Server | None = None) -> DataSet:
    """Ask the hub what `name` holds now; a commit as `revision` asks for that state of it."""
    if os.environ.get("HF_HUB_OFFLINE", "").lower() in ("1", "true", "yes", "on"):
        raise UserError(
            f"The hub's data set {name} is needed, and $HF_HUB_OFFLINE forbids asking for it.",
            fix="unset it, or give a folder that has the files: `handeye fetch libero --assets DIR`",
        )
    server = server or _server()
    api = f"{endpoint()}/api/datasets/{name}"
    commit = _json(server, f"{api}/revision/{revision}")[0].get("sha", "")
    if not re.fullmatch(r"[0-9a-f]{40}", commit):
        raise _strange(f"{api}/revision/{revision}", "no commit in the answer")
    files: dict[str, Expected] = {}
    url = f"{api}/tree/{commit}?recursive=true"
    while url:
        entries, following = _json(server, url)
        try:
            files |= {entry["path"]: _expected(entry) for entry in entries if entry["type"] == "file"}
        except (KeyError, TypeError, ValueError) as error:
            raise _strange(url, f"a file's entry is not understood: {error!r}") from None
        url = following
    return DataSet(name=name, revision=commit, files=files, server=server)


def _expected(entry: dict[str, Any]) -> Expected:
    if lfs := entry.get("lfs"):
        return Expected(size=int(lfs["size"]), sha256=str(lfs["oid"]))
    return Expected(size=int(entry["size"]), git_sha1=str(entry["oid"]))


def _json(server: Server, url: str) -> tuple[Any, str]:
    """The answer, and the address of the next page ("" on the last)."""
    content, headers = server.read(url)
    try:
        answer = json.loads(content)
    except ValueError as error:
        raise _strange(url, f"not JSON: {error}") from None
    following = re.search(r'<([^>]+)>;\s*rel="next"', headers.get("Link", ""))
    if following and not following[1].startswith(endpoint()):  # the token goes with the question
        raise _strange(url, f"its next page is on another server: {following[1]}")
    return answer, following[1] if following else ""


def _strange(url: str, why: str) -> UserError:
    return UserError(f"{url} did not answer as a hub does.", why=why, fix="check $HF_ENDPOINT and the network")
