from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from handeye.data.pipeline.vocabulary import Vocabulary
from handeye.data.xvr.batches import QuestionBatches
from handeye.data.xvr.form import Form
from handeye.data.xvr.questions import Questions
from handeye.errors import UserError


@pytest.fixture
def form(monkeypatch: pytest.MonkeyPatch) -> Form:
    monkeypatch.setattr(Vocabulary, "load", lambda self: lambda text: [3 + byte for byte in text.encode()])
    return Form(vocabulary=Vocabulary("bytes.model", "0"), length=200, pictures=3, size=14)


@pytest.fixture
def questions(folder: Path, made) -> Questions:
    lines = [made["line"](f"q{number}", [1 + number % 5, 2], ground_truth_answer=str(number)) for number in range(7)]
    return Questions(made["write_lines"](folder / "many.jsonl", lines))


def test_every_question_once_an_epoch_and_the_same_for_any_number_of_threads(questions: Questions, form: Form) -> None:
    one = QuestionBatches(questions, form, batch=3, seed=5)
    many = QuestionBatches(questions, form, batch=3, seed=5, workers=4)
    seen = []
    for _ in range(7):
        batch, other = one.next(), many.next()
        assert set(batch) == {"images", "num_images", "text", "mask_input", "mask_ar", "mask_loss", "index"}
        for name, value in batch.items():
            np.testing.assert_array_equal(value, other[name])
        assert batch["images"].shape == (3, 3, 14, 14, 3) and batch["text"].shape == (3, 200)
        for row, index in enumerate(batch["index"]):
            alone = form.encode(questions[int(index)], questions.store)
            for name, value in alone.items():
                np.testing.assert_array_equal(batch[name][row], value)
        seen += batch["index"].tolist()
    for epoch in (seen[:7], seen[7:14], seen[14:]):
        assert sorted(epoch) == list(range(7))
    assert seen[:7] != seen[7:14]


def test_it_goes_on_to_the_bit(questions: Questions, form: Form) -> None:
    first = QuestionBatches(questions, form, batch=3, seed=5)
    for _ in range(4):
        first.next()
    second = QuestionBatches(questions, form, batch=3, seed=5)
    second.restore(first.state())
    for _ in range(3):
        here, there = first.next(), second.next()
        assert all(np.array_equal(here[name], there[name]) for name in here)
    for other in (QuestionBatches(questions, form, 3, seed=6), QuestionBatches(questions.only(range(6)), form, 3, 5)):
        with pytest.raises(UserError, match="cannot go on"):
            other.restore(first.state())


def test_to_be_answered(questions: Questions, form: Form) -> None:
    batch = QuestionBatches(questions, form, batch=2, seed=0).batch(np.array([4, 1]), answer=False)
    assert batch["index"].tolist() == [4, 1] and not batch["mask_loss"].any()


def test_questions_that_do_not_fit_are_found_before_the_first_batch(folder: Path, form: Form, made, capfd) -> None:
    lines = [
        made["line"]("fits", [1]),
        made["line"]("many", [1, 2, 3, 1], task="task2"),
        made["line"]("long", [1], ground_truth_answer="x" * 200),
    ]
    questions = Questions(made["write_lines"](folder / "train.jsonl", lines))
    with pytest.raises(UserError, match=r"2 of 3 questions .* do not fit") as caught:
        QuestionBatches(questions, form, batch=1, seed=0)
    assert "many, the first: it asks about 4 pictures" in caught.value.why
    batches = QuestionBatches(questions, form, batch=1, seed=0, too_long="leave out")
    assert len(batches) == 1 and batches.next()["index"].tolist() == [0]
    assert batches.questions[0].id == "fits"
    assert "2 of 3" in (told := capfd.readouterr().err) and "1 of task2, 1 of task6" in told
    with pytest.raises(UserError, match="is left"):
        QuestionBatches(questions.only([1]), form, batch=1, seed=0, too_long="leave out")
    for numbers in ({"batch": 0}, {"workers": 0}):
        with pytest.raises(UserError, match="at least 1"):
            QuestionBatches(questions, form, **{"batch": 1, "seed": 0, **numbers})
