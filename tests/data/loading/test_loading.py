from __future__ import annotations

import json
import shutil
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from handeye.data.hdf5.demo import TaskHeader
from handeye.data.hdf5.read import read_demo
from handeye.data.hdf5.write import write_task_file
from handeye.data.loading.batches import Batches
from handeye.data.loading.demonstrations import Demonstrations
from handeye.data.loading.samples import Samples
from handeye.data.pipeline.pipeline import Pipeline, standard_pipeline
from handeye.data.pipeline.steps import JitterColours, ShiftImages
from handeye.errors import UserError

CHUNK = 3


@pytest.fixture(scope="module")
def demos(demo_folder: Path) -> Demonstrations:
    return Demonstrations(demo_folder)


@pytest.fixture(scope="module")
def pipeline(demos: Demonstrations) -> Pipeline:
    return standard_pipeline(
        demos.specs,
        demos.statistics(),
        image_size=12,
        prompt_length=32,
        action="bounds",
        augment=(ShiftImages(1), JitterColours(0.1, 0.1, 0.1)),
    )


@pytest.fixture(scope="module")
def samples(demos: Demonstrations, pipeline: Pipeline) -> Samples:
    return Samples(demos, pipeline, CHUNK)


def test_the_index(demos: Demonstrations) -> None:
    assert len(demos) == 15
    assert demos.specs.image.height == demos.specs.image.width == 12
    first = demos.episodes[0]
    assert (first.id, first.task, first.length) == ("a/open_the_drawer/demo_0", "a/open_the_drawer", 4)
    assert [ref.length for ref in demos.episodes] == [4, 5, 6, 7, 8] * 3
    for ref in (demos.episodes[0], demos.episodes[-1]):
        episode = demos.load(ref)
        assert (
            len(episode.actions) == ref.length and episode.id == ref.id and episode.source["demo"] == ref.where["demo"]
        )


def test_statistics_are_those_of_the_episodes(demos: Demonstrations) -> None:
    found = demos.statistics()
    actions = np.concatenate([demos.load(ref).actions for ref in demos.episodes])
    assert (found.episodes, found.steps) == (15, 90)
    np.testing.assert_allclose(found.action.mean, actions.mean(0, dtype=np.float64), atol=1e-12)


def test_different_image_sizes_are_refused(task_file: Path) -> None:
    made = read_demo(task_file, "demo_0")
    smaller = replace(made, images={name: frames[:, :8, :8] for name, frames in made.images.items()})
    header = TaskHeader(name="open_it", language="open it", env_name="X", problem_name="x")
    write_task_file(task_file.with_name("open_it_demo.hdf5"), header, [smaller])
    with pytest.raises(UserError, match="different image sizes"):
        Demonstrations(task_file.parent)


def test_split_is_by_demonstration_and_even_over_tasks(demos: Demonstrations) -> None:
    train, held = demos.split(0.4, 0)
    assert held is not None
    assert {ref.id for ref in train.episodes} | {ref.id for ref in held.episodes} == {ref.id for ref in demos.episodes}
    assert len(train) + len(held) == 15
    assert Counter(ref.task for ref in held.episodes) == dict.fromkeys({ref.task for ref in demos.episodes}, 2)
    again, _ = demos.split(0.4, 0)
    other, _ = demos.split(0.4, 1)
    assert again.episodes == train.episodes != other.episodes


def test_a_tasks_split_does_not_depend_on_other_tasks(demos: Demonstrations) -> None:
    _, held = demos.split(0.4, 0)
    _, alone = demos.only([ref for ref in demos.episodes if ref.task.startswith("b/")]).split(0.4, 0)
    assert held is not None and alone is not None
    assert [ref for ref in held.episodes if ref.task.startswith("b/")] == list(alone.episodes)


def test_limits_of_the_split(demos: Demonstrations) -> None:
    assert demos.split(0.0, 0) == (demos, None)
    for share, count in ((0.01, 1), (0.99, 4)):
        _, held = demos.split(share, 0)
        assert held is not None and len(held) == 3 * count
    with pytest.raises(UserError, match=r"share of 1.0 cannot be held out"):
        demos.split(1.0, 0)
    with pytest.raises(UserError, match="it has only one"):
        demos.only(demos.episodes[:1]).split(0.5, 0)


def test_every_step_starts_a_sample(demos: Demonstrations, pipeline: Pipeline, samples: Samples) -> None:
    assert len(samples) == 90
    row = 0
    for ref in demos.episodes:
        episode = demos.load(ref)
        encoded, targets = pipeline.encode_episode(episode), pipeline.targets(episode.actions)
        for step in range(ref.length):
            sample = samples[row]
            row += 1
            for name, value in encoded.items():
                np.testing.assert_array_equal(sample[name], value if name == "prompt" else value[step])
            left = min(CHUNK, ref.length - step)
            assert sample["valid"].tolist() == [k < left for k in range(CHUNK)]
            np.testing.assert_array_equal(sample["actions"][:left], targets[step : step + left])
            np.testing.assert_array_equal(sample["actions"][left:], np.tile(targets[-1], (CHUNK - left, 1)))
    assert row == 90


def test_a_batch_is_its_samples(samples: Samples) -> None:
    indices = np.array([3, 89, 3, 40])
    batch = samples.batch(indices)
    for place, index in enumerate(indices):
        for name, value in samples[int(index)].items():
            np.testing.assert_array_equal(batch[name][place], value)
    batch["image.wrist"][:] = 0  # a copy: the frames stay
    assert samples.batch(indices)["image.wrist"].any()


def test_other_pixels_are_another_dataset(task_file: Path, tmp_path: Path) -> None:
    """Rendered again, with the same actions: neither the digest nor a cache may be the same."""
    before = Demonstrations(task_file).digest()
    assert Demonstrations(task_file).digest() == before
    made = [read_demo(task_file, f"demo_{k}") for k in range(3)]
    darker = [replace(demo, images={name: frames // 2 for name, frames in demo.images.items()}) for demo in made]
    header = TaskHeader(name="x", language="put the bowl on the plate", env_name="X", problem_name="x")
    write_task_file(task_file, header, darker)
    assert Demonstrations(task_file).digest() != before


def test_two_files_of_one_task_are_refused(task_file: Path) -> None:
    shutil.copy(task_file, task_file.with_name("put_the_bowl_on_the_plate.hdf5"))
    with pytest.raises(UserError, match="are of the same task"):
        Demonstrations(task_file.parent)


def same(a: dict, b: dict) -> bool:
    return a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)


def test_every_epoch_shows_every_sample_once(samples: Samples) -> None:
    batches = Batches(samples, 7, seed=3)  # 7 does not divide 90: batches reach into the next epoch
    taken = np.concatenate([batches.order.take(7) for _ in range(90)])
    epochs = taken.reshape(7, 90)
    for epoch in epochs:
        np.testing.assert_array_equal(np.sort(epoch), np.arange(90))
    assert not (epochs[0] == epochs[1]).all()


@pytest.mark.parametrize("size", [7, 200])
@pytest.mark.parametrize("steps", [0, 1, 12, 13, 40])
def test_restored_batches_are_the_same_to_the_bit(samples: Samples, size: int, steps: int) -> None:
    whole = Batches(samples, size, seed=3)
    for _ in range(steps):
        whole.next()
    state = json.loads(json.dumps(whole.state()))
    resumed = Batches(samples, size, seed=3)
    resumed.restore(state)
    for _ in range(30):
        assert same(whole.next(), resumed.next())
    assert whole.state() == resumed.state()


def test_seeds_matter(samples: Samples) -> None:
    first, again, other = (Batches(samples, 16, seed=seed).next() for seed in (0, 0, 1))
    assert same(first, again) and not same(first, other)


def test_training_batches_are_augmented_and_samples_are_not(samples: Samples) -> None:
    batches = Batches(samples, 16, seed=0)
    plain = samples.batch(Batches(samples, 16, seed=0).order.take(16))
    varied = batches.next()
    assert (varied["image.wrist"] != plain["image.wrist"]).any()
    np.testing.assert_array_equal(varied["actions"], plain["actions"])


def test_a_foreign_position_is_refused(samples: Samples) -> None:
    state = Batches(samples, 8, seed=0).state()
    with pytest.raises(UserError, match="seed: 1 here, 0 there"):
        Batches(samples, 8, seed=1).restore(state)
    with pytest.raises(UserError, match="samples: 90 here, 91 there"):
        Batches(samples, 8, seed=0).restore(state | {"samples": 91})
    with pytest.raises(UserError, match="is not possible"):
        Batches(samples, 0, seed=0)
    with pytest.raises(UserError, match="-1 is not a seed"):
        Batches(samples, 8, seed=-1)


def test_a_batch_takes_a_few_milliseconds(samples: Samples) -> None:
    """Not a benchmark: a guard against a loop over samples. Best of many, because machines are shared."""
    indices = np.arange(64)
    times = []
    for _ in range(20):
        start = time.perf_counter()
        samples.batch(indices)
        times.append(time.perf_counter() - start)
    assert min(times) < 0.005
