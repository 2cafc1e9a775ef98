"""A connection between two processes on which large arrays travel through shared memory.

    ours, theirs = pair()          # give `theirs` to a process that is being spawned
    ours.send(message)             # anything that can be pickled
    message = ours.receive()       # HangUp when the other end is gone

The shared block has no name anywhere: it goes with the last process that holds it, however that ends. It carries the
messages of one end only, the `writer`, who must hear an answer before it sends again: there is room for one message.
What is too large for it goes through the connection like everything else.
"""

from __future__ import annotations

import mmap
import multiprocessing
import os
import pickle
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import reduction
from multiprocessing.connection import Connection
from typing import Any, Literal

SIZE = 16 << 20
"""Bytes of a block, unless said. Only pages that were written to take memory; an observation of two 256 x 256 images
is 0.4 MB."""

LARGE = 1 << 12
"""Bytes from which a buffer goes through the block: below that the connection is as quick."""


class HangUp(BaseException):
    """The other end is gone. No `Exception`, so that nothing which handles a job's errors takes it for one."""


class Block:
    """Anonymous shared memory. It may be given to a process while that is spawned, and at no other time."""

    def __init__(self, size: int = SIZE, file: int | None = None) -> None:
        self.size = size
        self._file = _anonymous(size) if file is None else file
        self.bytes = mmap.mmap(self._file, size)

    def __reduce__(self) -> tuple[Any, ...]:
        return _received, (self.size, reduction.DupFd(self._file))

    def close(self) -> None:
        """Both ends of a pair hold the same one until one of them is given away."""
        self.bytes.close()
        self._let_go()

    def __del__(self) -> None:
        if hasattr(self, "_file"):
            self._let_go()  # the map goes with the last array that lies in it

    def _let_go(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


def _anonymous(size: int) -> int:
    if hasattr(os, "memfd_create"):
        file = os.memfd_create("handeye")
    else:  # not Linux: a file that nobody can find, because it was unlinked when it was made
        with tempfile.TemporaryFile() as made:
            file = os.dup(made.fileno())
    try:
        os.ftruncate(file, size)
    except OSError:
        os.close(file)
        raise
    return file


def _received(size: int, duplicate: Any) -> Block:
    return Block(size, duplicate.detach())


@dataclass(eq=False)
class Line:
    """One end."""

    connection: Connection
    block: Block | None
    """None where the system gives none: everything then goes through the connection."""

    writes: bool
    """This end sends through the block, the other one reads it."""

    def fileno(self) -> int:
        """For `multiprocessing.connection.wait`."""
        return self.connection.fileno()

    def send(self, message: object) -> None:
        buffers: list[pickle.PickleBuffer] = []
        block = self.block if self.writes else None
        content = pickle.dumps(message, protocol=5, buffer_callback=_aside(buffers, block.size) if block else None)
        sizes, start = [], 0
        for buffer in buffers:
            assert block is not None
            with buffer.raw() as raw:
                block.bytes[start : start + raw.nbytes] = raw
                sizes.append(raw.nbytes)
                start += raw.nbytes
        try:
            self.connection.send((content, sizes))
        except OSError as error:
            raise HangUp from error

    def receive(self) -> Any:
        """A copy: the block may be written to again as soon as this is answered."""
        try:
            content, sizes = self.connection.recv()
        except (EOFError, OSError) as error:
            raise HangUp from error
        buffers, start = [], 0
        for size in sizes:
            assert self.block is not None
            with memoryview(self.block.bytes) as whole, whole[start : start + size] as part:
                buffers.append(bytearray(part))
            start += size
        return pickle.loads(content, buffers=buffers)

    def waiting(self) -> bool:
        """A message (or the end) is there to be received."""
        try:
            return self.connection.poll()
        except OSError:
            return True

    def close_connection(self) -> None:
        """This end was given away; the other one still needs the block."""
        self.connection.close()

    def close(self) -> None:
        self.connection.close()
        if self.block is not None:
            self.block.close()


def _aside(buffers: list[pickle.PickleBuffer], most: int) -> Callable[[pickle.PickleBuffer], bool]:
    """Pickle's callback: false for what was put aside, true for what it should write itself."""
    taken = 0

    def put(buffer: pickle.PickleBuffer) -> bool:
        nonlocal taken
        with buffer.raw() as raw:
            size = raw.nbytes
        if size < LARGE or taken + size > most:
            return True
        taken += size
        buffers.append(buffer)
        return False

    return put


def pair(writer: Literal["ours", "theirs"] = "theirs", size: int = SIZE) -> tuple[Line, Line]:
    """The parent's end, and the one for a process that is about to be spawned. `size`: bytes of the block."""
    ours, theirs = multiprocessing.get_context("spawn").Pipe()
    try:
        block = Block(size)
    except OSError:  # a limit on the size of files, for one
        block = None
    return Line(ours, block, writes=writer == "ours"), Line(theirs, block, writes=writer == "theirs")
