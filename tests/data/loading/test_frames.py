from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest

from handeye.data.config import ConvertConfig
from handeye.data.convert.run import run as convert
from handeye.data.loading import frames, kept
from handeye.data.loading.demonstrations import Demonstrations
from handeye.data.loading.samples import Samples
from handeye.data.pipeline.pipeline import Pipeline, standard_pipeline
from handeye.data.pipeline.steps import JitterColours
from handeye.errors import UserError

CHUNK = 3


def make_pipeline(demos: Demonstrations) -> Pipeline:
    return standard_pipeline(demos.specs, demos.statistics(), image_size=8, prompt_length=32)


@pytest.fixture(scope="module")
def demos(demo_folder: Path) -> Demonstrations:
    return Demonstrations(demo_folder)


@pytest.fixture(scope="module")
def pipeline(demos: Demonstrations) -> Pipeline:
    return make_pipeline(demos)


def same(one: Samples, other: Samples) -> None:
    for numbers in (np.arange(len(one)), np.array([7, 3, 7, len(one) - 1, 0])):
        a, b = one.batch(numbers), other.batch(numbers)
        assert list(a) == list(b)
        for name in a:
            assert a[name].dtype == b[name].dtype
            np.testing.assert_array_equal(a[name], b[name], err_msg=name)


@pytest.mark.parametrize("to", ["hdf5", "rlds", "lerobot"])
def test_three_ways_one_answer(demo_folder: Path, tmp_path: Path, to) -> None:
    root = convert(ConvertConfig(root=demo_folder, target=tmp_path / to, to=to, workers=1))
    demos = Demonstrations(root)
    part, _ = demos.split(0.4, 0)
    pipeline = make_pipeline(demos)
    for of in (demos, part):
        memory = Samples(of, pipeline, CHUNK, frames="memory")
        for other in (
            Samples(of, pipeline, CHUNK, frames="stream"),
            Samples(of, pipeline, CHUNK, frames="cache", cache=tmp_path / "cache"),
            Samples(of, pipeline, CHUNK, frames="memory", share=True),
        ):
            same(memory, other)


def test_auto_says_what_it_took_and_why(
    demos: Demonstrations, pipeline: Pipeline, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch
) -> None:
    def taken(**how) -> str:
        Samples(demos, pipeline, CHUNK, **how)
        return capsys.readouterr().out

    assert taken().startswith("frames of 15 demonstrations: memory, ")
    assert ": cache, since " in taken(cache=tmp_path)
    assert ": stream, since in memory they would need 41.3 kB" in (said := taken(memory_gb=1e-6))
    assert "--memory-gb allows 1e-06" in said and " ms each" in said
    monkeypatch.setattr(frames, "_free_memory", lambda: 1000)
    assert "and 1.0 kB are free" in taken()
    assert taken(frames="memory") == ""  # who chose knows


def test_frames_that_do_not_fit_are_refused(demos: Demonstrations, pipeline: Pipeline) -> None:
    with pytest.raises(UserError, match=r"The encoded frames need 0.0 GB; 1e-06 GB are allowed") as caught:
        Samples(demos, pipeline, CHUNK, frames="memory", memory_gb=1e-6)
    assert "90 steps of 4" in caught.value.why and "stream them" in caught.value.fix
    with pytest.raises(UserError, match="name a folder with --cache"):
        Samples(demos, pipeline, CHUNK, frames="cache")


def never(*_: object) -> dict[str, np.ndarray]:
    raise AssertionError("nothing should be encoded")


def test_a_cache_is_found_again_by_what_was_encoded(
    demos: Demonstrations, pipeline: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = Samples(demos, pipeline, CHUNK, cache=tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(frames.Encoder, "whole", never)
        second = Samples(demos, pipeline, CHUNK, cache=tmp_path)
        varied = Pipeline(pipeline.encode_steps, pipeline.decode_steps, augment_steps=(JitterColours(0.1, 0.1, 0.1),))
        Samples(demos, varied, 5, ends="drop", cache=tmp_path)
    assert isinstance(second.frames.arrays["image.wrist"], np.memmap)
    same(first, second)
    (folder,) = tmp_path.iterdir()
    Samples(
        demos, standard_pipeline(demos.specs, demos.statistics(), image_size=6, prompt_length=32), 3, cache=tmp_path
    )
    Samples(demos.only(demos.episodes[:4]), pipeline, 3, cache=tmp_path)
    assert len(list(tmp_path.iterdir())) == 3
    (folder / "manifest.json").write_text(json.dumps({"bytes": 0}))
    with pytest.raises(UserError, match="is not what its name says"):
        Samples(demos, pipeline, CHUNK, cache=tmp_path)


def test_a_full_disk_is_one_error(demos: Demonstrations, pipeline: Pipeline, tmp_path: Path, monkeypatch) -> None:
    def full(files) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(kept, "_on_disk", full)
        with pytest.raises(UserError, match=r"No space left on device; it needs \d"):
            Samples(demos, pipeline, CHUNK, cache=tmp_path)
    assert not [path for path in tmp_path.iterdir() if not path.name.startswith(".")]
    Samples(demos, pipeline, CHUNK, cache=tmp_path)
    assert [path.name[0] for path in tmp_path.iterdir()] != ["."]
    assert len(list(tmp_path.iterdir())) == 1  # what was left of the first attempt is gone
    with pytest.raises(UserError, match="Could not make"):
        Samples(demos, pipeline, CHUNK, cache=Path("/proc/nowhere"))


def test_a_broken_episode_is_its_own_error(
    demos: Demonstrations, pipeline: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: Demonstrations, ref) -> None:
        raise UserError(f"{ref.id} is broken", fix="mend it")

    monkeypatch.setattr(Demonstrations, "load", broken)
    for how in ({}, {"cache": tmp_path}):
        with pytest.raises(UserError, match="demo_0 is broken"):
            Samples(demos, pipeline, CHUNK, **how)


def test_samples_travel_to_other_processes_without_their_frames(
    demos: Demonstrations, pipeline: Pipeline, tmp_path: Path
) -> None:
    cached = Samples(demos, pipeline, CHUNK, cache=tmp_path)
    streamed = Samples(demos, pipeline, CHUNK, frames="stream")
    for samples in (cached, streamed):
        content = pickle.dumps(samples)
        assert len(content) < 30_000
        same(samples, pickle.loads(content))
    with pytest.raises(ValueError, match="share=True"):
        pickle.dumps(Samples(demos, pipeline, CHUNK, frames="memory"))
