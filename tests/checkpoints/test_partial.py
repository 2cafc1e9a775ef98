"""What of a checkpoint was not loaded is counted and told."""

from __future__ import annotations

from handeye.checkpoints.partial import compare, mark, told

WANTED = {"head.weight": (7, 10), "head.bias": (7,), "body.weight": (10, 10), "new.scale": (10,)}
THERE = {"head.weight": (8, 10), "head.bias": (7,), "body.weight": (10, 10), "old.weight": (3,)}


def test_what_fits_has_no_record() -> None:
    assert compare(WANTED, WANTED, what="it") is None
    without = {name: shape for name, shape in WANTED.items() if name != "new.scale"}
    assert compare(WANTED, without, fresh=["new.*"], what="it") is None


def test_another_shape_is_never_declared_new() -> None:
    assert compare(WANTED, {**WANTED, "new.scale": (11,)}, fresh=["new.*"], what="it") is not None


def test_coverage_is_by_numbers_of_each_module() -> None:
    record = compare(WANTED, THERE, what="it")
    assert record == {
        "from": "it",
        "modules": {
            "head": {"numbers": 77, "loaded": 7, "new": {"head.weight": "[8, 10] there, [7, 10] here"}},
            "body": {"numbers": 100, "loaded": 100, "new": {}},
            "new": {"numbers": 10, "loaded": 0, "new": {"new.scale": "missing"}},
        },
        "left_out": ["old.weight"],
    }
    text = told(record)
    assert "9.09% of 77 numbers" in text and "100.00% of 100 numbers" in text
    assert all(name in text for name in ("head.weight", "new.scale", "left out: old.weight"))
    assert "57.2% of its numbers came from it, 2 tensors" in mark([record]) and mark([]) == ""


def test_the_latest_start_is_told_first() -> None:
    first, second = compare(WANTED, THERE, what="first"), compare(WANTED, THERE, what="second")
    assert first and second
    assert mark([first, second]).index("second") < mark([first, second]).index("first")
