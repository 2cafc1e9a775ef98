"""`handeye data make-xvr`: a folder of true questions in XVR's layout, from our own simulator.

A question is a function of the seed, its file and its number alone. What the answer was computed from (cameras, states,
marks) stands in each line's `image_info`, so that anybody can compute it again."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from handeye.console import progress, say
from handeye.data.xvr.make.config import MakeXvrConfig
from handeye.data.xvr.make.kinds import MAKERS, Asked, Shot, make
from handeye.data.xvr.make.stage import Stage
from handeye.data.xvr.small_vocabulary import write_small_vocabulary
from handeye.records import provenance, write_json

SPLITS = ("train", "valid", "xvr_eval")
TOKENIZER = "tokenizer.model"


def run(config: MakeXvrConfig) -> Path:
    """Returns the folder."""
    part = config.out.with_name(f".{config.out.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    (part / "images").mkdir(parents=True)
    counts = dict(zip(SPLITS, (config.train, config.valid, config.eval), strict=True))
    texts, pictures = list[str](), 0
    with Stage(config.size, config.backend) as stage, progress("questions", sum(counts.values())) as advance:
        for split, count in counts.items():
            with (part / f"{split}.jsonl").open("w") as file:
                for name, asked in questions(stage, split, count, config.seed):
                    line = to_json(name, asked, first=pictures + 1)
                    for offset, each in enumerate(asked.shots, start=1):
                        Image.fromarray(each.picture).save(part / address(pictures + offset))
                    pictures += len(asked.shots)
                    file.write(json.dumps(line) + "\n")
                    texts += [block["text"] for block in line["prompt_blocks"] if block["type"] == "text"]
                    texts += asked.options
                    advance()
                file.flush()
                os.fsync(file.fileno())
    write_small_vocabulary(part / TOKENIZER, texts, pieces=config.pieces)
    write_json(part / "made.json", {"config": {**vars(config), "out": str(config.out)}, **provenance()})
    part.replace(config.out)
    say(f"{config.out}: {', '.join(f'{count} {split}' for split, count in counts.items())}, {pictures} pictures")
    return config.out


def questions(stage: Stage, split: str, count: int, seed: int) -> Iterator[tuple[str, Asked]]:
    """The kinds in turn, each question from its own random stream."""
    tasks = list(MAKERS)
    for number in range(count):
        task = tasks[number % len(tasks)]
        random = np.random.default_rng([seed, SPLITS.index(split), number])
        yield f"{task}_tabletop_{split}_{number:06d}", make(task, stage, random)


def address(number: int) -> str:
    return f"images/img_{number:07d}.png"


def to_json(name: str, asked: Asked, *, first: int) -> dict[str, Any]:
    """One line. `first`: the number of its first picture."""
    blocks: list[dict[str, Any]] = [{"type": "text", "text": f"{asked.intro}\n", "image_url": None}]
    for offset, each in enumerate(asked.shots):
        blocks.append({"type": "text", "text": f"{each.title}:\n", "image_url": None})
        blocks.append({"type": "image_url", "image_url": {"url": address(first + offset)}, "text": None})
    blocks.append({"type": "text", "text": f"\n{asked.question}", "image_url": None})
    return {
        "sample_id": name,
        "task": name.split("_tabletop_")[0],
        "prompt_blocks": blocks,
        "ground_truth_answer": asked.answer,
        "answer_format": "single_choice",
        "answer_options": list(asked.options),
        "image_info": [_info(each) for each in asked.shots],
    }


def _info(each: Shot) -> dict[str, Any]:
    return {
        "camera": each.view.to_json(),
        "episode": each.moment.episode.to_json(),
        "state": each.moment.state.tolist(),
        "marks": [dict(mark) for mark in each.marks],
    }
