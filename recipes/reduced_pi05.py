"""A pi0.5 of a thousandth of the size and random weights, as openpi lays out its checkpoints: for chains that show that
everything fits together on a CPU.

    python recipes/reduced_pi05.py OUT TOKENIZER.model [--seed N]
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import torch

from handeye.checkpoints.layouts import openpi
from handeye.checkpoints.layouts.openpi_names import to_tree
from handeye.checkpoints.layouts.openpi_write import ASSET
from handeye.checkpoints.orbax import ITEM, write_orbax
from handeye.checkpoints.save import whole_folder
from handeye.console import say
from handeye.data.pipeline.vocabulary import Vocabulary
from handeye.models.gemma import GemmaConfig
from handeye.models.pi05 import Config, Model
from handeye.models.siglip import SiglipConfig
from handeye.records import write_json

VISION = SiglipConfig(patch=28, width=96, depth=3, mlp=192, heads=4)  # 64 tokens a picture of 224 pixels
LANGUAGE = GemmaConfig(width=128, depth=3, mlp=384, heads=4, kv_heads=1, head_dim=32)
EXPERT = GemmaConfig(width=96, depth=3, mlp=256, heads=4, kv_heads=1, head_dim=32)


def main(out: Path, tokenizer: Path, seed: int) -> None:
    config = Config(
        kind="pi05", vision=VISION, language=LANGUAGE, expert=EXPERT, vocabulary=Vocabulary.of(tokenizer).pieces(),
        chunk=8,
    )  # fmt: skip
    model = Model(config)
    model.initialise(torch.Generator().manual_seed(seed))
    with whole_folder(out) as part:
        write_orbax(
            part / ITEM, to_tree({name: tensor.detach() for name, tensor in model.state_dict().items()}, config)
        )
        rows = {n: {"mean": [0.0] * n, "std": [1.0] * n, "q01": [-1.0] * n, "q99": [1.0] * n} for n in (7, 8)}
        stats = {"norm_stats": {"state": rows[8], "actions": rows[7]}}  # of nothing: it never acts before it is trained
        write_json(part / openpi.ASSETS / ASSET / openpi.STATISTICS, stats)
        shutil.copy2(tokenizer, part / openpi.TOKENIZER)
    say(f"{out}: {sum(parameter.numel() for parameter in model.parameters()):,} random numbers")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("tokenizer", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    main(**vars(parser.parse_args()))
