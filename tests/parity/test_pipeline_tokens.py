"""Prompts and token ids, exactly: Llama's through tokenizers, Gemma's through SentencePiece."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import numpy as np
import pytest

from handeye.conventions import action_tokens
from handeye.conventions.prompt import openvla_text
from handeye.data.pipeline.prompts import OpenpiPrompt, OpenVlaPrompt
from handeye.data.pipeline.vocabulary import Vocabulary
from handeye.errors import UserError

pytestmark = pytest.mark.goldens


def load(path: Path) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


@pytest.fixture(scope="module")
def llama(goldens: Path) -> Vocabulary:
    return Vocabulary.of(goldens / "openvla" / "openvla_tiny" / "tokenizer.json")


@pytest.fixture(scope="module")
def gemma(goldens: Path) -> Vocabulary:
    return Vocabulary.of(goldens / "pi05" / "tokenizer" / "tiny_tokenizer.model")


@pytest.fixture(scope="module")
def tokenizer(goldens: Path) -> dict[str, np.ndarray]:
    return load(goldens / "openvla" / "tokenizer.npz")


def real(ids: np.ndarray) -> list[int]:
    return ids[ids >= 0].tolist()


def test_llamas_ids(llama: Vocabulary, tokenizer: dict[str, np.ndarray], record_property) -> None:
    tokenize, compared = llama.load(), 0
    for text, ids in zip(tokenizer["text"], tokenizer["text_ids"], strict=True):
        assert [1, *tokenize(str(text))] == real(ids), text
        compared += len(real(ids))
    assert compared
    record_property("Llama token ids", compared)


def test_openvlas_prompts(goldens: Path, llama: Vocabulary, record_property) -> None:
    """From the instruction as it is given; the last id is the blank before the first action."""
    files = [goldens / "openvla" / name for name in ("openvla_tiny.npz", "oft_tiny.npz")]
    for found in map(load, files):
        for index, instruction in enumerate(found["instructions"]):
            assert openvla_text(str(instruction)) == found["prompts"][index]
            encoded = OpenVlaPrompt(llama, 64)({"prompt": str(instruction)})
            ids = encoded["prompt"][encoded["prompt_mask"]]
            assert ids.tolist() == [*found[f"input_ids_{index}"], action_tokens.SPACE]
            if f"prompt_ids_{index}" in found:
                np.testing.assert_array_equal(ids, found[f"prompt_ids_{index}"])
            record_property("Llama token ids", len(ids))


def test_whole_training_strings(llama: Vocabulary, tokenizer: dict[str, np.ndarray], record_property) -> None:
    """Question, blank, 8 x 7 actions, end of text. The reference makes a string of the actions and tokenises it
    again."""
    for row, instruction in enumerate(tokenizer["chunk_instruction"]):
        encoded = OpenVlaPrompt(llama, 64)({"prompt": str(instruction)})
        asked = encoded["prompt"][encoded["prompt_mask"]]
        answer = [*action_tokens.encode(tokenizer["chunk_actions"][row]).ravel(), action_tokens.STOP]
        ids, labels = tokenizer["chunk_input_ids"][row], tokenizer["chunk_labels"][row]
        whole = [*asked, *answer]
        assert real(ids) == whole if (ids < 0).any() else ids[: len(whole)].tolist() == whole
        learned = labels[: len(whole)]
        assert (learned[: len(asked)] == -100).all() and learned[len(asked) :].tolist() == answer
        record_property("ids and labels of training strings", 2 * len(whole))


def test_an_action_id_is_one_character(llama: Vocabulary, tokenizer: dict[str, np.ndarray]) -> None:
    """So a string of actions has as many tokens as characters, which the reference relies on."""
    tokenize = llama.load()
    ids = np.arange(action_tokens.VOCABULARY - 256, action_tokens.VOCABULARY)
    found = [tokenize(str(character))[-1] for character in tokenizer["action_id_characters"]]
    assert sorted(found) == ids.tolist()


def test_openpis_tokens(goldens: Path, gemma: Vocabulary, record_property) -> None:
    """Padding, masks, and cutting, which openpi does with a warning and we only where it is declared."""
    cases = json.loads((goldens / "pi05" / "transforms.json").read_text())["tokenise"]
    assert cases
    for case in cases:
        with_state = case["state"] is not None
        item = {"prompt": case["prompt"], "proprio": np.array(case["state"] if with_state else [0.0] * 8)}
        encoded = OpenpiPrompt(gemma, case["max_len"], state=with_state, too_long="cut")(item)
        assert encoded["prompt"].tolist() == case["tokens"], case["prompt"]
        assert encoded["prompt_mask"].sum() == case["mask_true"]
        assert encoded["prompt_mask"][: case["mask_true"]].all()
        record_property("SentencePiece token ids", len(case["tokens"]))
        strict = OpenpiPrompt(gemma, case["max_len"], state=with_state)
        length = 1 + sum(len(gemma.load()(text)) for text in case["strings_encoded"])
        if length > case["max_len"]:
            with pytest.raises(UserError, match=f"has {length} tokens"):
                strict(item)
            record_property("prompts refused that openpi cuts", 1)
        else:
            np.testing.assert_array_equal(strict(item)["prompt"], encoded["prompt"])


def test_sentencepiece(goldens: Path, gemma: Vocabulary, record_property) -> None:
    for case in json.loads((goldens / "pi05" / "transforms.json").read_text())["sentencepiece_plain"]:
        assert gemma.load()(case["text"]) == case["ids"]
        record_property("SentencePiece token ids", len(case["ids"]))


def test_gemmas_true_vocabulary(goldens: Path, record_property) -> None:
    """$HANDEYE_GEMMA_TOKENIZER: models/tokenizer.json of the npm package that the reference file names (17 MB)."""
    found = json.loads((goldens / "pi05" / "tokenizer" / "gemma_true_vocabulary_ids.json").read_text())
    path = os.environ.get("HANDEYE_GEMMA_TOKENIZER")
    if not path:
        pytest.skip(f"$HANDEYE_GEMMA_TOKENIZER does not name the file of {found['vocabulary']}")
    assert hashlib.sha256(Path(path).read_bytes()).hexdigest() == found["tokenizer_json_sha256"]
    vocabulary = Vocabulary.of(Path(path))
    for case in found["plain"]:
        assert vocabulary.load()(case["text"]) == case["ids"], case["text"]
        record_property("ids of Gemma's true vocabulary", len(case["ids"]))
    for case in found["prompts"]:
        for key, with_state in (("pi0_tokens", False), ("pi05_tokens", True)):
            if with_state:  # the file has the text, not the state that it was made from
                ids = [2, *vocabulary.load()(case["pi05_prompt"])]
            else:
                encoded = OpenpiPrompt(vocabulary, 48, state=False)({"prompt": case["text"]})
                ids = encoded["prompt"][encoded["prompt_mask"]].tolist()
            assert ids == case[key], case["text"]
            record_property("ids of Gemma's true vocabulary", len(ids))
