"""Questions -> endless training batches, in the exact, resumable order that demonstrations are trained in."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

import numpy as np
from jaxtyping import Integer

from handeye import console
from handeye.data.loading.order import Order
from handeye.data.xvr.form import Form
from handeye.data.xvr.questions import Questions
from handeye.errors import UserError


class QuestionBatches:
    """Arrays of a batch: those of `Form.encode`, with a first axis B, and `index` int64 (B,), where each question is in
    `questions`. Whether all of them fit is found out before the first batch, not in the middle of the night."""

    def __init__(
        self,
        questions: Questions,
        form: Form,
        batch: int,
        seed: int,
        *,
        too_long: Literal["refuse", "leave out"] = "refuse",
        workers: int = 1,
    ) -> None:
        """`too_long`: what happens when questions do not fit `form`; those left out are counted aloud. `workers`:
        threads that decode pictures; the batches do not depend on it."""
        if batch < 1 or workers < 1:
            raise UserError(f"Batches of {batch} by {workers} threads are not possible.", fix="use at least 1 of each")
        self.questions = _fitting(questions, form, too_long)
        self.form, self.size, self.workers = form, batch, workers
        self.order = Order(len(self.questions), seed)

    def __len__(self) -> int:
        return len(self.questions)

    def next(self) -> dict[str, np.ndarray]:
        return self.batch(self.order.take(self.size))

    def batch(self, indices: Integer[np.ndarray, "B"], *, answer: bool = True) -> dict[str, np.ndarray]:
        """These questions. `answer=False`: without their answers, to let the model give them."""

        def one(index: int) -> dict[str, np.ndarray]:
            return self.form.encode(self.questions[index], self.questions.store, answer=answer)

        numbers = [int(index) for index in indices]
        if self.workers > 1:
            with ThreadPoolExecutor(self.workers) as pool:
                encoded = list(pool.map(one, numbers))
        else:
            encoded = [one(number) for number in numbers]
        stacked = {name: np.stack([sample[name] for sample in encoded]) for name in encoded[0]}
        return {**stacked, "index": np.array(numbers, np.int64)}

    def state(self) -> dict[str, int]:
        return self.order.state()

    def restore(self, state: Mapping[str, Any]) -> None:
        self.order.restore(state)


def trimmed(batch: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Without the frames and tokens that no question of the batch has: they would change nothing but the time."""
    frames, tokens = int(batch["num_images"].max()), int(batch["mask_input"].sum(1).max())
    ends = {"images": frames, "text": tokens, "mask_input": tokens, "mask_ar": tokens, "mask_loss": tokens}
    return {
        name: np.ascontiguousarray(array[:, : ends[name]]) if name in ends else array for name, array in batch.items()
    }


def _fitting(questions: Questions, form: Form, too_long: Literal["refuse", "leave out"]) -> Questions:
    kept, misfits = list[int](), list[tuple[int, str]]()
    with console.progress(f"counting the tokens of {questions.name}", len(questions)) as advance:
        for index, question in enumerate(questions):
            if why := form.why_not(question):
                misfits.append((index, why))
            else:
                kept.append(index)
            advance()
    if not misfits:
        return questions
    index, why = misfits[0]
    counted = f"{len(misfits)} of {len(questions)} questions in {questions.path} do not fit"
    if too_long == "refuse":
        raise UserError(
            f"{counted}.",
            why=f"{questions.entries[index].id}, the first: {why}",
            fix="allow more pictures or tokens, or leave such questions out by saying so",
        )
    console.warn(f"{counted} and are left out: {_by_task(questions, [index for index, _ in misfits])}")
    return questions.only(kept)


def _by_task(questions: Questions, indices: Sequence[int]) -> str:
    counts = Counter(questions.entries[index].task for index in indices)
    return ", ".join(f"{count} of {task}" for task, count in sorted(counts.items()))
