from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest

from handeye.data.loading.batches import Batches
from handeye.data.loading.demonstrations import Demonstrations
from handeye.data.loading.samples import Samples
from handeye.data.pipeline.pipeline import Pipeline, standard_pipeline
from handeye.data.pipeline.steps import JitterColours, ShiftImages
from handeye.errors import UserError

CHUNK, SIZE = 3, 12


@pytest.fixture(scope="module")
def demos(demo_folder: Path) -> Demonstrations:
    return Demonstrations(demo_folder)


@pytest.fixture(scope="module")
def pipeline(demos: Demonstrations) -> Pipeline:
    augment = (ShiftImages(1), JitterColours(0.1, 0.1, 0.1))
    return standard_pipeline(demos.specs, demos.statistics(), image_size=12, prompt_length=32, augment=augment)


@pytest.fixture(scope="module")
def samples(demos: Demonstrations, pipeline: Pipeline) -> Samples:
    return Samples(demos, pipeline, CHUNK, share=True)


def same(a: dict, b: dict) -> bool:
    return list(a) == list(b) and all(a[n].dtype == b[n].dtype and np.array_equal(a[n], b[n]) for n in a)


def test_the_ranks_of_any_number_make_the_global_batch(samples: Samples) -> None:
    for ranks in (1, 2, 3, 12):
        whole = Batches(samples, SIZE, seed=4)
        shares = [Batches(samples, SIZE, seed=4, rank=rank, ranks=ranks) for rank in range(ranks)]
        for _ in range(10):  # 90 samples: the eighth batch reaches into the next epoch
            batch, parts = whole.next(), [share.next() for share in shares]
            assert {len(part["valid"]) for part in parts} == {SIZE // ranks}
            assert same(batch, {name: np.concatenate([part[name] for part in parts]) for name in batch})
        assert all(share.state() == whole.state() for share in shares)
    with pytest.raises(UserError, match=r"12 samples cannot be divided among 5 processes.*\n.*\n.*such as 15"):
        Batches(samples, SIZE, 0, ranks=5)
    with pytest.raises(UserError, match="no rank 2 of 2"):
        Batches(samples, SIZE, 0, rank=2, ranks=2)
    with pytest.raises(UserError, match="-1 worker processes"):
        Batches(samples, SIZE, 0, workers=-1)


def test_workers_make_the_same_batches_and_can_be_interrupted(samples: Samples) -> None:
    here = Batches(samples, SIZE, seed=1)
    with Batches(samples, SIZE, seed=1, workers=2) as there:
        for _ in range(9):
            assert same(here.next(), there.next())
            assert there.state() == here.state()  # what was made ahead is not handed out
        state = json.loads(json.dumps(there.state()))
        expected = [here.next() for _ in range(3)]
        assert all(same(batch, there.next()) for batch in expected)
        there.restore(state)
        assert all(same(batch, there.next()) for batch in expected)
        assert there._ahead is not None
        victim = there._ahead._makers[1].process
        os.kill(victim.pid, signal.SIGKILL)
        for _ in range(4):
            assert same(here.next(), there.next())
    resumed = Batches(samples, SIZE, seed=1)
    resumed.restore(there.state())
    assert same(here.next(), resumed.next())


@pytest.mark.parametrize("workers", [0, 1])
def test_a_broken_frame_is_the_same_error_wherever_it_is_read(task_file: Path, workers: int) -> None:
    """It is raised for the batch that needs it, and again when that one is asked for again."""
    demos = Demonstrations(task_file)
    pipeline = standard_pipeline(demos.specs, demos.statistics(), image_size=12, prompt_length=32)
    samples = Samples(demos, pipeline, CHUNK, frames="stream")
    with Batches(samples, 3, seed=0, workers=workers) as batches:
        good = batches.next()
        state = batches.state()
        samples.frames.encoder.demos.source._opened.close()
        content = task_file.read_bytes()
        batches.close()  # workers keep files open
        task_file.write_bytes(content[:200])
        for _ in range(2):
            with pytest.raises(UserError, match=r"put_the_bowl_on_the_plate_demo.hdf5 cannot be used"):
                batches.next()
            assert batches.state() == state
        task_file.write_bytes(content)
        assert not same(good, batches.next())


def test_chunk_ends(demos: Demonstrations, pipeline: Pipeline, samples: Samples) -> None:
    """`repeat` counts what `pad` masks; `drop` has the samples that need neither."""
    everything = samples.batch(np.arange(len(samples)))
    repeated = Samples(demos, pipeline, CHUNK, ends="repeat")
    found = repeated.batch(np.arange(len(repeated)))
    assert found["valid"].all() and not everything["valid"].all()
    assert same({**found, "valid": everything["valid"]}, everything)
    dropped = Samples(demos, pipeline, CHUNK, ends="drop")
    whole = np.flatnonzero(everything["valid"].all(1))
    assert len(dropped) == len(whole) == 90 - 15 * (CHUNK - 1)
    assert same(dropped.batch(np.arange(len(dropped))), {name: value[whole] for name, value in everything.items()})
    np.testing.assert_array_equal(dropped.proprio(np.arange(len(whole))), samples.proprio(whole))
    assert [len(part) for part in dropped.demonstrated()] == [90, 90]
