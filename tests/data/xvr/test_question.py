from __future__ import annotations

import json

import pytest

from handeye.data.xvr.question import Picture, Question, Text, parse
from handeye.errors import UserError

TEXT = {"type": "text", "text": "Which is it? "}
PICTURE = {"type": "image_url", "image_url": {"url": "images/a.png"}}
LINE = {"sample_id": "q1", "task": "task6", "prompt_blocks": [TEXT, PICTURE], "ground_truth_answer": "2"}


def read(**changes: object) -> Question:
    kept = {key: value for key, value in {**LINE, **changes}.items() if value is not ...}
    return parse(json.dumps(kept).encode(), "train.jsonl line 7")


def test_blocks_are_told_apart_by_their_type_with_and_without_nulls() -> None:
    with_nulls = [{**TEXT, "image_url": None}, {**PICTURE, "text": None}]
    for blocks in ([TEXT, PICTURE], with_nulls):
        question = read(prompt_blocks=blocks)
        assert question.blocks == (Text("Which is it? "), Picture("images/a.png"))
        assert question.pictures == ("images/a.png",)
        assert (question.id, question.task, question.answer, question.options) == ("q1", "task6", "2", ())


def test_the_prompt_keeps_every_blank_and_the_places_of_pictures() -> None:
    question = read(prompt_blocks=[TEXT, PICTURE, {"type": "text", "text": "\n or "}, PICTURE])
    assert question.prompt("<image>") == "Which is it? <image>\n or <image>"
    assert question.prompt() == "Which is it? \n or "


def test_older_files_offer_answers() -> None:
    question = read(answer_format="multiple_choice", answer_options=["1", 2], target_view="front", image_info={"n": 2})
    assert question.options == ("1", "2") and question.answer_format == "multiple_choice"
    assert question.extra == {"target_view": "front", "image_info": {"n": 2}}
    assert read(answer_options=None, answer_format=None).options == ()


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"sample_id": ...}, "sample_id is missing"),
        ({"sample_id": 7}, "sample_id is 7 instead of text"),
        ({"task": ""}, "task is empty"),
        ({"ground_truth_answer": None}, "ground_truth_answer is missing"),
        ({"ground_truth_answer": 3}, "3 instead of text"),
        ({"ground_truth_answer": "\ud800"}, "half a character"),
        ({"prompt_blocks": []}, "not a list of blocks"),
        ({"prompt_blocks": {"type": "text"}}, "not a list of blocks"),
        ({"prompt_blocks": ["text"]}, "a str instead of an object"),
        ({"prompt_blocks": [TEXT]}, "no picture"),
        ({"prompt_blocks": [{"type": "text", "text": " "}, PICTURE]}, "no text"),
        ({"prompt_blocks": [TEXT, {"type": "audio"}]}, "its type is 'audio'"),
        ({"prompt_blocks": [TEXT, {"text": "no type"}]}, "its type is None"),
        ({"prompt_blocks": [{"type": "text", "text": None}, PICTURE]}, "text is missing"),
        ({"prompt_blocks": [{**TEXT, "image_url": {"url": "b"}}, PICTURE]}, "also has image_url"),
        ({"prompt_blocks": [TEXT, {"type": "image_url", "image_url": None}]}, "image_url is null"),
        ({"prompt_blocks": [TEXT, {"type": "image_url", "image_url": "images/a.png"}]}, "instead of an object"),
        ({"prompt_blocks": [TEXT, {"type": "image_url", "image_url": {}}]}, "url is missing"),
        ({"answer_options": "12"}, "answer_options"),
        ({"answer_options": [[1]]}, "answer_options"),
    ],
)
def test_what_is_not_a_question(changes: dict, why: str) -> None:
    with pytest.raises(UserError) as caught:
        read(**changes)
    assert "train.jsonl line 7" in caught.value.what and why in caught.value.why, caught.value


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://127.0.0.1:9/x.png", "nothing is fetched"),
        ("file:///etc/hostname", "nothing is fetched"),
        ("data:image/png;base64,AAAA", "nothing is fetched"),
        ("C:/x.png", "nothing is fetched"),
        ("/etc/hostname", "outside"),
        ("images/../../x", "outside"),
        ("images\\..\\x", "outside"),
        ("a\0b", "outside"),
        (".", "outside"),
    ],
)
def test_pictures_elsewhere(url: str, why: str) -> None:
    with pytest.raises(UserError, match="line 7") as caught:
        read(prompt_blocks=[TEXT, {"type": "image_url", "image_url": {"url": url}}])
    assert why in caught.value.why


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"1", b"\xff\xfe{}", b"[" * 100_000, b'{"a": ' * 100_000])
def test_lines_that_are_no_json_object(content: bytes) -> None:
    with pytest.raises(UserError, match="line 7"):
        parse(content, "train.jsonl line 7")
