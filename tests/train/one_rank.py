"""One of several processes that train together; the environment says which, as torchrun does.

python one_rank.py DATA OUT NAME FIELD=VALUE ...
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "plugins"))

from small_training import KINDS, made, shrink

from handeye.train.run import run

data, out, name, *pairs = sys.argv[1:]
kind, changes = KINDS[name]
told = {field: ast.literal_eval(value) for field, _, value in (pair.partition("=") for pair in pairs)}
if "start_from" in told:
    told["start_from"] = Path(told["start_from"])
with pytest.MonkeyPatch.context() as patch:
    shrink(patch)
    run(made(kind, Path(data), Path(out), **{**changes, **told}))
