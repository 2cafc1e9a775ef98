from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from handeye.errors import UserError
from handeye.sim import assets
from handeye.sim.bddl import parse

TASK = """(define (problem LIBERO_Tabletop_Manipulation)
  (:domain robosuite)  ; a comment
  (:language Put the Bowl on the plate)
  (:regions
    (left (:target main_table) (:ranges ((-0.1 0.2 .3 4e-1))) (:yaw_rotation ((0 1.5))))
    (top_side (:target cabinet_1))
  )
  (:fixtures main_table - table cabinet_1 - cabinet)
  (:objects bowl_1 bowl_2 - bowl
            plate_1 - plate)
  (:obj_of_interest bowl_1 plate_1)
  (:init (On bowl_1 main_table_left) (Open cabinet_1))
  (:goal (And (On bowl_1 plate_1) (Close cabinet_1)))
)"""


def test_what_a_task_says() -> None:
    problem = parse(TASK)
    assert problem.name == "libero_tabletop_manipulation"
    assert problem.language == "put the bowl on the plate"
    assert problem.objects == {"bowl": ("bowl_1", "bowl_2"), "plate": ("plate_1",)}
    assert list(problem.fixtures) == ["table", "cabinet"]
    assert problem.of_interest == ("bowl_1", "plate_1")
    assert problem.init == (("on", "bowl_1", "main_table_left"), ("open", "cabinet_1"))
    assert problem.goal == (("on", "bowl_1", "plate_1"), ("close", "cabinet_1"))
    left, top = problem.regions.values()
    assert (left.name, left.target, left.ranges, left.yaw) == (
        "main_table_left",
        "main_table",
        ((-0.1, 0.2, 0.3, 0.4),),
        (0.0, 1.5),
    )
    assert (top.name, top.ranges, top.yaw, top.rgba) == ("cabinet_1_top_side", (), (0.0, 0.0), (0.0, 0.0, 1.0, 0.0))


def test_the_order_of_groups_and_a_goal_without_and_do_not_matter() -> None:
    goal = "(:goal (And (On bowl_1 plate_1) (Close cabinet_1)))"
    moved = TASK.replace(goal, "").replace("(:domain", "(:goal (On bowl_1 plate_1)) (:domain")
    assert parse(moved).goal == (("on", "bowl_1", "plate_1"),)


@pytest.mark.parametrize(
    ("before", "after", "line", "why"),
    [
        ("4e-1)))", "4e-1))", 1, "never closed"),
        ("\n)", "\n))", 14, "closing parenthesis"),
        ("\n)", "\n) extra", 14, "found 2"),
        ("(define", "(undefined", 1, "(define"),
        ("(:domain robosuite)", "(:domain robocasa)", 2, "only robosuite"),
        ("(:domain robosuite)", "", 1, "no :domain"),
        ("(:domain robosuite)", "(:domain)", 2, "one word"),
        ("(:domain robosuite)", "(:domain robosuite) (:domain robosuite)", 2, "a second"),
        ("(:domain robosuite)", "(:domain robosuite) (:colour red)", 2, "unknown group"),
        ("(:domain robosuite)", "(:domain robosuite) loose", 2, "parenthesis is expected"),
        (".3 4e-1", ".3 four", 5, "not a number"),
        (".3 4e-1", ".3 nan", 5, "not a number"),
        (".3 4e-1", ".3 4e999", 5, "too large"),
        (".3 4e-1", ".3", 5, "expected 4 numbers"),
        ("(:target cabinet_1)", "", 6, "no (:target"),
        ("(:target cabinet_1)", "(:target cabinet_1) (:colour red)", 6, "unknown here"),
        ("top_side (:target cabinet_1)", "left (:target main_table)", 6, "a second region"),
        ("bowl_1 bowl_2 - bowl", "bowl_1 bowl_1 - bowl", 9, "several things"),
        ("plate_1 - plate)", "plate_1 -)", 10, "a dash"),
        ("plate_1 - plate)", "plate_1)", 9, "no category"),
        ("plate_1 - plate)", "plate_1 - bowl)", 10, "twice"),
        ("(Open cabinet_1)", "(Spin cabinet_1)", 12, "unknown predicate"),
        ("(Open cabinet_1)", "(Open)", 12, "wants 1"),
        ("(Open cabinet_1)", "(Open cupboard_1)", 12, "neither an object"),
        ("(On bowl_1 plate_1) (Close cabinet_1)", "", 13, "goal is empty"),
        ("(On bowl_1 plate_1) (Close", "(Not (On bowl_1 plate_1)) (Close", 13, "a word is expected"),
    ],
)
def test_a_broken_file_is_named_with_its_line(before: str, after: str, line: int, why: str) -> None:
    assert before in TASK
    with pytest.raises(UserError) as caught:
        parse(TASK.replace(before, after, 1), source="task.bddl")
    assert caught.value.what.startswith(f"task.bddl, line {line}:"), caught.value
    assert why in caught.value.why


@pytest.mark.parametrize("text", ["", "\x00\xff", "(", "()", "((((", "word", "(define)", "(define (problem))"])
def test_nonsense_is_an_error_too(text: str) -> None:
    with pytest.raises(UserError):
        parse(text)


@pytest.mark.libero
def test_all_of_libero() -> None:
    """The counts are those of facts 1.1, made with the reference's own parser."""
    init, goal, ranges = Counter(), Counter(), Counter()
    files = sorted(assets.libero_files().glob("bddl_files/*/*.bddl"))
    for path in files:
        problem = parse(path.read_text(), source=str(path))
        init.update(predicate[0] for predicate in problem.init)
        goal.update(predicate[0] for predicate in problem.goal)
        ranges.update(len(region.ranges) for region in problem.regions.values())
    assert len(files) == 130
    assert init == {"on": 647, "open": 22, "close": 3, "turnon": 3, "in": 1}
    assert goal == {"on": 61, "in": 63, "open": 7, "close": 11, "turnon": 8, "turnoff": 1}
    assert ranges == {1: 731, 0: 401}


@pytest.mark.libero
def test_no_file_cut_anywhere_is_taken_for_a_whole_one() -> None:
    path = Path(assets.libero_files() / "bddl_files/libero_goal/turn_on_the_stove.bddl")
    text = path.read_text().rstrip()
    for end in range(0, len(text), 7):
        with pytest.raises(UserError):
            parse(text[:end])
