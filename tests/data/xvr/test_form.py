from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from handeye.data.pipeline.vocabulary import Vocabulary
from handeye.data.xvr.form import END, PAD, START, Form, prepare
from handeye.data.xvr.question import Picture, Question, Text
from handeye.data.xvr.questions import Questions
from handeye.data.xvr.store import Store
from handeye.errors import UserError

LINE_BREAK = 100


@pytest.fixture
def form(monkeypatch: pytest.MonkeyPatch) -> Form:
    """A vocabulary of letters: the n-th of the alphabet is 10 + n, a line break 100, everything else 99."""

    def tokenize(text: str) -> list[int]:
        return [
            LINE_BREAK if letter == "\n" else 10 + ord(letter) - ord("a") if letter.islower() else 99 for letter in text
        ]

    monkeypatch.setattr(Vocabulary, "load", lambda self: tokenize)
    return Form(vocabulary=Vocabulary("letters.model", "0"), length=12, pictures=2, size=14)


QUESTION = Question(
    id="q", task="t", blocks=(Text("ab"), Picture("images/img_1.png"), Text("c")), answer="Z", options=()
)


def test_a_row(form: Form) -> None:
    row = form.row(QUESTION)
    assert row["text"].tolist() == [START, 10, 11, 12, LINE_BREAK, 35, END, *[PAD] * 5]
    assert row["mask_input"].tolist() == [True] * 7 + [False] * 5
    assert row["mask_ar"].tolist() == row["mask_loss"].tolist() == [False] * 5 + [True] * 2 + [False] * 5
    asked = form.row(QUESTION, answer=False)
    assert asked["text"].tolist() == [START, 10, 11, 12, LINE_BREAK, *[PAD] * 7]
    assert asked["mask_input"].sum() == 5 and not asked["mask_ar"].any() and not asked["mask_loss"].any()


def test_what_is_declared_has_its_effect(form: Form) -> None:
    assert replace(form, lower=False).row(QUESTION)["text"][5] == 99
    assert replace(form, prefix="x").row(QUESTION)["text"][1:4].tolist() == [33, 99, 10]
    learnt = replace(form, loss_on_prompt=True).row(QUESTION)
    assert learnt["mask_loss"].tolist() == learnt["mask_input"].tolist()
    assert learnt["mask_ar"].sum() == 2
    with pytest.raises(UserError, match="holds no question"):
        replace(form, pictures=0)


def test_what_would_be_cut_is_an_error_that_names_the_question(form: Form, tmp_path: Path) -> None:
    assert replace(form, length=7).row(QUESTION)["text"][-1] == END
    with pytest.raises(UserError, match=r"(?s)q does not fit.*7 tokens with its answer, and 6 can be given"):
        replace(form, length=6).row(QUESTION)
    several = replace(QUESTION, blocks=(*QUESTION.blocks, *[Picture("images/img_1.png")] * 2))
    assert "3 pictures, and 2 can be given" in form.why_not(several)
    with pytest.raises(UserError, match="q does not fit"):
        form.frames(several, Store(tmp_path))  # before any picture is read


def test_frames_in_order_and_nothing_behind_them(form: Form, folder: Path, made) -> None:
    questions = Questions(folder / "train.jsonl")
    form = replace(form, pictures=4, length=400)
    frames = form.frames(questions[1], questions.store)
    assert frames["images"].shape == (4, 14, 14, 3) and frames["images"].dtype == np.float32
    assert frames["num_images"] == 3
    for place, number in enumerate((2, 3, 1)):
        pixels = questions.store.decode(f"images/img_{number}.png")
        np.testing.assert_array_equal(frames["images"][place], prepare(pixels, 14))
    assert not frames["images"][3].any()


def test_pixels_become_minus_one_to_one() -> None:
    image = np.zeros((20, 30, 3), np.uint8)
    image[:, 15:] = 255
    ready = prepare(image, 10)
    np.testing.assert_allclose(
        [ready.min(), ready.max(), ready.mean()], [-1, 1, 0], rtol=0, atol=1e-6
    )  # proportions are not kept, nothing is added
