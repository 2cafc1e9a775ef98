"""XVR: every question and picture of the reference data, what its broken folders must give, and PaliGemma's rows and
frames as the reference trainers make them."""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from handeye.data.pipeline.vocabulary import Vocabulary
from handeye.data.verify.findings import exit_code
from handeye.data.xvr.form import Form, prepare
from handeye.data.xvr.question import Picture, Question, Text
from handeye.data.xvr.questions import Questions, open_questions
from handeye.data.xvr.store import Store
from handeye.data.xvr.verify import verify
from handeye.errors import UserError

pytestmark = pytest.mark.goldens


@pytest.fixture
def xvr(goldens: Path) -> Path:
    return goldens / "data" / "xvr"


@pytest.fixture
def pi05(goldens: Path) -> Path:
    return goldens / "pi05" / "xvr"


def test_every_question(xvr: Path, record_property) -> None:
    expected = json.loads((xvr / "expected.json").read_text())
    splits = open_questions(xvr)
    assert set(splits) == set(expected["splits"])
    for name, split in splits.items():
        known = expected["splits"][name]
        assert len(split) == known["num_samples"]
        assert Counter(entry.task for entry in split.entries) == known["tasks"]
        assert Counter(entry.answer for entry in split.entries) == known["answers"]
        for question in split:
            sample = expected["samples"].pop(question.id)
            assert sample["split"] == name and question.task == sample["task"] and question.answer == sample["answer"]
            assert list(question.pictures) == sample["images"] and len(question.blocks) == sample["num_blocks"]
            assert question.prompt("<image>") == sample["prompt_text"]
    assert not expected["samples"]
    many = [entry.id for split in splits.values() for entry in split.entries if entry.pictures > 6]
    assert sorted(many) == sorted(expected["samples_with_more_than_6_images"])
    assert exit_code(verify(xvr)) == 0
    record_property("XVR questions", expected["total_samples"])


def test_every_picture(xvr: Path, tmp_path: Path, record_property) -> None:
    """As files; and those in the shard, from the shard alone."""
    expected = json.loads((xvr / "expected.json").read_text())
    shards = tmp_path / "shards"
    shards.mkdir()
    (shards / "image_shards").symlink_to(xvr / "image_shards")
    for store, names in ((Store(xvr), expected["images"]), (Store(shards), expected["tar_shard_members"])):
        for name in names:
            known = expected["images"][name]
            pixels = store.decode(name)
            assert [pixels.shape[1], pixels.shape[0]] == known["size"]
            assert hashlib.sha256(pixels.tobytes()).hexdigest() == known["sha256_of_pixels"]
    record_property("XVR pictures", len(expected["images"]))
    record_property("XVR pictures read from a shard", len(expected["tar_shard_members"]))


def test_broken_folders(goldens: Path, record_property) -> None:
    broken = goldens / "data" / "broken"
    manifest = json.loads((broken / "MANIFEST.json").read_text())
    entries = [entry for entry in manifest["entries"] if entry["format"] == "xvr"]
    counts = Counter[str]()
    for entry in entries:
        root = broken / entry["path"]
        findings = verify(root)
        wanted = {"accept": 0, "warn": 1, "reject": 2}[entry["expect"]]
        assert exit_code(findings) == wanted, (entry, findings)
        told = " ".join(finding.found for finding in findings if finding.verdict == "fail")
        assert entry.get("image", "") in told and (f"line {entry['line']}" in told if "line" in entry else True)
        counts[entry["expect"]] += 1
        if wanted == 2:
            with pytest.raises(UserError):
                _read_all(root)
        else:
            assert _read_all(root) > 0
    assert counts["accept"] and counts["reject"] and sum(counts.values()) == len(entries)
    assert manifest["pickle_marker_environment_variable"] not in os.environ
    for expect, count in counts.items():
        record_property(f"XVR folders: {expect}", count)


def _read_all(root: Path) -> int:
    pictures = 0
    for split in open_questions(root).values():
        for question in split:
            for name in question.pictures:
                pictures += split.store.decode(name).size > 0
    return pictures


def test_lines_as_the_reference_parses_them(pi05: Path, record_property) -> None:
    known = json.loads((pi05 / "xvr.json").read_text())
    questions = Questions(pi05 / "mini.jsonl")
    assert len(questions) == known["num_samples"]
    for question, sample in zip(questions, known["parse_sample"], strict=True):
        assert (question.id, question.task, question.answer) == (
            sample["sample_id"],
            sample["task"],
            sample["answer"],
        )
        assert list(question.pictures) == sample["images"] and question.prompt() == sample["prompt"]
    record_property("XVR lines parsed as by the reference", len(questions))


def test_rows_as_the_reference_makes_them(goldens: Path, pi05: Path, record_property) -> None:
    """Where nothing is cut, the same tokens and masks. Where the reference cuts the answer, an error."""
    vocabulary = Vocabulary.of(goldens / "pi05" / "tokenizer" / "tiny_tokenizer.model")
    compared = refused = 0
    for case in json.loads((pi05 / "xvr.json").read_text())["preprocess_tokens"]:
        answer = case["suffix"]
        question = Question(id="q", task="t", blocks=(Text(case["prefix"]), Picture("x")), answer=answer or "-")
        length = case["seqlen"] or len(case["tokens"])
        form = Form(vocabulary=vocabulary, length=length)
        needed = sum(map(len, form.ids(question, answer=answer is not None)))
        if needed > length:
            with pytest.raises(UserError, match="does not fit"):
                form.row(question, answer=answer is not None)
            refused += 1
            continue
        row = form.row(question, answer=answer is not None)
        for ours, theirs in (("text", "tokens"), ("mask_ar",) * 2, ("mask_loss",) * 2, ("mask_input",) * 2):
            assert row[ours].astype(int).tolist() == case[theirs], (case["prefix"], ours)
        compared += 1
    assert compared and refused
    record_property("XVR rows equal to the reference", compared)
    record_property("XVR rows that the reference cuts, refused", refused)


def test_frames_as_the_reference_makes_them(pi05: Path, record_property) -> None:
    known = json.loads((pi05 / "xvr.json").read_text())
    store = Store(pi05)
    compared = 0
    with np.load(pi05 / "xvr.npz") as arrays:
        for case in known["image_cases"]:
            pixels = store.decode(case["file"])
            for name in (name for name in arrays if name.startswith(f"single/{case['name']}/")):
                size = int(name.rsplit("/", 1)[1])
                np.testing.assert_allclose(prepare(pixels, size), arrays[name], rtol=0, atol=2e-5)
                compared += 1
        for name in (name for name in arrays if name.startswith("frames_newest/")):  # several, in order
            frames = arrays[name]
            for case, frame in zip(known["image_cases"], frames, strict=False):
                pixels = store.decode(case["file"])
                np.testing.assert_allclose(prepare(pixels, frame.shape[0]), frame, rtol=0, atol=2e-5)
                compared += 1
    assert compared >= len(known["image_cases"])
    record_property("XVR frames equal to the reference", compared)
