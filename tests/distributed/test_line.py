"""Arrays come through as they were sent, small, large and too large; nothing has a name that could be left behind."""

from __future__ import annotations

from pathlib import Path
from threading import Thread

import numpy as np
import pytest

from handeye.distributed import line
from handeye.distributed.line import HangUp, pair


@pytest.mark.parametrize("shape", [(1,), (0, 7), (3, 5), (256, 256, 3), (2000, 1500)])
@pytest.mark.parametrize("kind", [np.uint8, np.float64])
def test_what_is_sent_is_received(shape: tuple[int, ...], kind: type) -> None:
    ours, theirs = pair()
    sent = np.asarray(np.random.default_rng(0).random(shape) * 250, kind)
    for array in (sent, np.asfortranarray(sent), sent[..., ::-1]):
        for sender, receiver in ((theirs, ours), (ours, theirs)):
            sending = Thread(target=sender.send, args=({"array": array, "other": [1, "two"]},))
            sending.start()  # more than a pipe holds needs a reader at the same time
            received = receiver.receive()
            sending.join(10)
            np.testing.assert_array_equal(received["array"], array)
            assert received["array"].dtype == array.dtype
            assert received["other"] == [1, "two"]
            received["array"][...] = 0  # a copy, and ours to write to
    ours.close()
    theirs.close()


def test_large_arrays_do_not_go_through_the_connection() -> None:
    ours, theirs = pair()
    picture = np.arange(256 * 256 * 3, dtype=np.uint8).reshape(256, 256, 3)
    theirs.send([picture, picture + 1])
    content, sizes = ours.connection.recv()
    assert len(content) < 1000
    assert sizes == [picture.nbytes] * 2
    theirs.send(picture)
    kept = ours.receive()
    theirs.send(picture + 7)
    np.testing.assert_array_equal(kept, picture)
    ours.close()
    theirs.close()


def test_the_end_is_heard() -> None:
    ours, theirs = pair()
    theirs.connection.close()
    assert ours.waiting()
    with pytest.raises(HangUp):
        ours.receive()
    with pytest.raises(HangUp):
        ours.send("anybody?")
    assert not issubclass(HangUp, Exception)
    ours.close()
    theirs.close()


def test_where_no_memory_can_be_shared_the_connection_carries_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(size: int) -> int:
        raise OSError("no such thing here")

    monkeypatch.setattr(line, "_anonymous", refused)
    ours, theirs = pair()
    assert ours.block is None
    theirs.send(np.arange(5000, dtype=np.uint8))
    np.testing.assert_array_equal(ours.receive(), np.arange(5000, dtype=np.uint8))
    ours.close()
    theirs.close()


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="no /dev/shm on this system")
def test_shared_memory_has_no_name() -> None:
    before = set(Path("/dev/shm").iterdir())
    ours, theirs = pair()
    theirs.send(np.zeros(1 << 20))
    assert set(Path("/dev/shm").iterdir()) <= before
    ours.close()
    theirs.close()
