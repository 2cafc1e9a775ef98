"""The two pipelines of `vggt_vla`: what the model is shown, and what the robot gets."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from handeye.conventions import libero
from handeye.data.pipeline.pipeline import Pipeline
from handeye.data.pipeline.vggt import NO_INSTRUCTION, atlas_pipeline, vggt_pipeline
from handeye.data.pipeline.vocabulary import Vocabulary
from handeye.data.statistics import Statistics, measure
from handeye.errors import UserError
from handeye.types import Observation

SPECS = libero.specs(camera_size=32)


@pytest.fixture(scope="module")
def statistics() -> Statistics:
    random = np.random.default_rng(0)
    actions = random.uniform(-0.5, 0.5, (200, 7))
    actions[:, -1] = np.sign(actions[:, -1])
    return measure([(actions, random.normal(size=(200, 8)))])


@pytest.fixture
def vocabulary(tmp_path: Path) -> Vocabulary:
    words = {"<unk>": 0, "put": 5, "the": 6, "cube": 7, "No": 8, "instruction": 9}
    (tmp_path / "tokenizer.json").write_text(json.dumps({
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": [], "normalizer": None,
        "pre_tokenizer": {"type": "Whitespace"}, "post_processor": None, "decoder": None,
        "model": {"type": "WordLevel", "vocab": words, "unk_token": "<unk>"},
    }))  # fmt: skip
    return Vocabulary.of(tmp_path / "tokenizer.json")


@pytest.fixture
def seen() -> Observation:
    """A white corner: top left."""
    corner = np.zeros((32, 32, 3), np.uint8)
    corner[:8, :8] = 255
    images = {"agentview": corner, "wrist": corner // 2}
    return Observation(images=images, proprio=np.ones(8, np.float32), prompt="put the cube")


def test_ours_shows_pictures_upright_and_the_tasks_own_sentence(
    statistics: Statistics, vocabulary: Vocabulary, seen: Observation
) -> None:
    pipeline = vggt_pipeline(SPECS, statistics, vocabulary, image_size=16, prompt_length=6)
    item = pipeline.encode(seen)
    assert item["image.agentview"].dtype == np.uint8 and item["image.agentview"][0, 0].tolist() == [255] * 3
    assert item["prompt"].tolist() == [5, 6, 7, 151_643, 151_643, 151_643] and item["prompt_mask"].sum() == 3
    assert item["proprio"].shape == (8,)
    demonstrated = np.array([[0.1, -0.2, 0.3, 0, 0, 0, -1.0]])
    np.testing.assert_allclose(pipeline.decode(pipeline.targets(demonstrated)), demonstrated, atol=1e-6)
    assert Pipeline.from_json(pipeline.to_json(), what="it") == pipeline


def test_without_a_vocabulary_it_reads_bytes(statistics: Statistics, seen: Observation) -> None:
    item = vggt_pipeline(SPECS, statistics, None, image_size=16, prompt_length=20).encode(seen)
    assert bytes((item["prompt"][:12] - 1).tolist()) == b"put the cube" and "prompt_mask" not in item


def test_the_reference_saw_them_as_lerobot_keeps_them(
    statistics: Statistics, vocabulary: Vocabulary, seen: Observation
) -> None:
    """Left and right swapped; its own evaluation showed them bottom row first. Pixels between 0 and 1."""

    def corner(turned: bool) -> tuple[int, int]:
        pipeline = atlas_pipeline(
            SPECS, statistics, vocabulary, cameras=("agentview",), image_size=16, prompt_length=6, turned=turned
        )
        item = pipeline.encode(seen)
        assert set(item) >= {"image.agentview", "prompt"} and "image.wrist" not in item
        image = item["image.agentview"][..., 0]
        assert image.dtype == np.float32 and image.max() == 1
        row, column = np.unravel_index(image.argmax(), image.shape)
        return int(row > 8), int(column > 8)

    assert corner(turned=True) == (0, 1)
    assert corner(turned=False) == (1, 0)


def test_the_references_one_sentence_and_pixels_of_its_age(
    statistics: Statistics, vocabulary: Vocabulary, seen: Observation
) -> None:
    pipeline = atlas_pipeline(
        SPECS, statistics, vocabulary, cameras=("agentview",), image_size=16, prompt_length=6, constant=True,
        imagenet=True, pad=0,
    )  # fmt: skip
    item = pipeline.encode(seen)
    assert NO_INSTRUCTION == "No instruction" and item["prompt"].tolist() == [8, 9, 0, 0, 0, 0]
    assert item["image.agentview"].min() == pytest.approx(-0.485 / 0.229, abs=1e-5)
    assert Pipeline.from_json(pipeline.to_json(), what="it") == pipeline


def test_the_references_actions_are_z_scores_clipped(statistics: Statistics, vocabulary: Vocabulary) -> None:
    pipeline = atlas_pipeline(SPECS, statistics, vocabulary, cameras=("agentview",))
    np.testing.assert_allclose(pipeline.decode(np.zeros((1, 7))), [statistics.action.mean], atol=1e-6)
    assert pipeline.decode(np.full((1, 7), 99.0)).tolist() == [[1.0] * 7]


def test_long_sentences_are_refused_by_ours(statistics: Statistics, vocabulary: Vocabulary, seen: Observation) -> None:
    with pytest.raises(UserError, match="3 tokens"):
        vggt_pipeline(SPECS, statistics, vocabulary, prompt_length=2).encode(seen)
