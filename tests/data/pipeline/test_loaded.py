"""A pipeline behind a loader: what training and validation really get."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from handeye.data.loading.batches import Batches
from handeye.data.loading.demonstrations import Demonstrations
from handeye.data.loading.samples import Samples
from handeye.data.pipeline.pipeline import standard_pipeline
from handeye.data.pipeline.published import openpi_pipeline
from handeye.data.pipeline.steps import JitterColours, ShiftImages
from handeye.data.pipeline.vocabulary import Vocabulary


@pytest.fixture(scope="module")
def demos(demo_folder: Path) -> Demonstrations:
    every = Demonstrations(demo_folder)
    return every.only(every.episodes[:4])


def test_how_a_sample_is_varied_depends_on_its_place_alone(demos: Demonstrations) -> None:
    """Not on the size of batches: two of 8 are four of 4."""
    augment = (ShiftImages(2), JitterColours(0.2, 0.2, 0.1))
    pipeline = standard_pipeline(demos.specs, demos.statistics(), image_size=12, prompt_length=64, augment=augment)
    samples = Samples(demos, pipeline, 3)
    large, small = Batches(samples, 8, seed=1), Batches(samples, 4, seed=1)
    for _ in range(4):  # 32 of 22 samples: into the second epoch
        one, two = large.next(), [small.next(), small.next()]
        for name, value in one.items():
            np.testing.assert_array_equal(value, np.concatenate([part[name] for part in two]))


@pytest.mark.parametrize("cached", [False, True])
@pytest.mark.parametrize(("family", "state"), [("pi0", False), ("pi05", True)])
def test_prompts_with_states_and_relative_actions(
    demos: Demonstrations, vocabulary: Vocabulary, family, state: bool, cached: bool, tmp_path: Path
) -> None:
    pipeline = openpi_pipeline(demos.specs, demos.statistics(), vocabulary, family=family, state_in_prompt=state)
    samples = Samples(demos, pipeline, 3, cache=tmp_path if cached else None)
    row = 0
    for ref in demos.episodes:
        episode = demos.load(ref)
        encoded = pipeline.encode_episode(episode)
        for step in range(ref.length):
            sample = samples[row]
            row += 1
            for name in ("prompt", "prompt_mask"):
                whole = encoded[name]
                np.testing.assert_array_equal(sample[name], whole[step] if state else whole)
            np.testing.assert_array_equal(sample["proprio"], encoded["proprio"][step])
            chunk = episode.actions[np.minimum(step + np.arange(3), ref.length - 1)]
            expected = pipeline.targets(chunk, episode.proprio[step].astype(np.float32))
            np.testing.assert_array_equal(sample["actions"], expected)
