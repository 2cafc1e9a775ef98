"""A task file (BDDL) -> Problem. Strict: what the 130 LIBERO files do not use is an error with its line, never a guess.

The grammar is the reference's: one `(define ...)` of unordered groups, everything in lower case, `;` to the end of a
line is a comment.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NoReturn

from handeye.errors import UserError
from handeye.sim.world import Predicate, Problem, Region

PREDICATES = {"on": 2, "in": 2, "open": 1, "close": 1, "turnon": 1, "turnoff": 1}
"""Name -> number of arguments: those that occur in LIBERO."""

GROUPS = ("problem", ":domain", ":language", ":regions", ":fixtures", ":objects", ":obj_of_interest", ":init", ":goal")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?")


@dataclass(frozen=True)
class _Word:
    text: str
    line: int


@dataclass(frozen=True)
class _List:
    items: tuple[_Word | _List, ...]
    line: int


_Node = _Word | _List


def parse(text: str, *, source: str = "the task file") -> Problem:
    """`source` names the file in errors."""
    return _Reader(source).problem(text)


@dataclass(frozen=True)
class _Reader:
    source: str

    def fail(self, line: int, why: str) -> NoReturn:
        raise UserError(
            f"{self.source}, line {line}: not a task this program understands.",
            why=why,
            fix="restore the file (`handeye fetch libero` brings the original ones), or correct that line",
        )

    def problem(self, text: str) -> Problem:
        groups = self.groups(self.tree(text))
        for name in ("problem", ":domain"):
            if len(groups[name].items) != 2:
                self.fail(groups[name].line, f"`{name}` wants one word")
        if (domain := self.words(groups[":domain"])[0]) != "robosuite":
            self.fail(groups[":domain"].line, f"the domain is {domain!r}; only robosuite is known")
        regions = self.regions(groups[":regions"])
        fixtures = self.instances(groups[":fixtures"])
        objects = self.instances(groups[":objects"])
        names = [name for kinds in (fixtures, objects) for members in kinds.values() for name in members]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            self.fail(groups[":objects"].line, f"there are several things called {twice[0]}")
        known = {*names, *regions}
        goal = groups[":goal"]
        if len(goal.items) != 2:
            self.fail(goal.line, "`:goal` wants one predicate, or several inside (and ...)")
        wanted = self.as_list(goal.items[1])
        conjuncts = wanted.items[1:] if wanted.items and self.word(wanted.items[0]) == "and" else (wanted,)
        if not conjuncts:
            self.fail(goal.line, "the goal is empty")
        return Problem(
            name=self.words(groups["problem"])[0],
            language=" ".join(self.words(groups[":language"])),
            regions=regions,
            fixtures=fixtures,
            objects=objects,
            of_interest=tuple(self.words(groups[":obj_of_interest"])),
            init=tuple(self.predicate(node, known) for node in groups[":init"].items[1:]),
            goal=tuple(self.predicate(node, known) for node in conjuncts),
        )

    def tree(self, text: str) -> _List:
        """Balanced parentheses -> nested lists; exactly one outermost list."""
        open_lists: list[tuple[int, list[_Node]]] = [(1, [])]
        line = 1
        for line, token in _tokens(text):
            if token == "(":
                open_lists.append((line, []))
            elif token == ")":
                if len(open_lists) == 1:
                    self.fail(line, "a closing parenthesis without an opening one")
                start, items = open_lists.pop()
                open_lists[-1][1].append(_List(tuple(items), start))
            else:
                open_lists[-1][1].append(_Word(token, line))
        if len(open_lists) > 1:
            self.fail(open_lists[-1][0], "the parenthesis opened here is never closed (is the file cut off?)")
        outer = open_lists[0][1]
        if len(outer) != 1:
            self.fail(line, f"expected one (define ...), found {len(outer)} expressions")
        return self.as_list(outer[0])

    def groups(self, define: _List) -> dict[str, _List]:
        if not define.items or self.word(define.items[0]) != "define":
            self.fail(define.line, "the file must start with (define")
        found: dict[str, _List] = {}
        for node in define.items[1:]:
            group = self.as_list(node)
            name = self.word(group.items[0]) if group.items else "()"
            if name not in GROUPS:
                self.fail(group.line, f"unknown group {name!r}; known: {', '.join(GROUPS)}")
            if name in found:
                self.fail(group.line, f"a second `{name}`; the first is in line {found[name].line}")
            found[name] = group
        if missing := [name for name in GROUPS if name not in found]:
            self.fail(define.line, f"there is no {' and no '.join(missing)}")
        return found

    def instances(self, group: _List) -> dict[str, tuple[str, ...]]:
        """`a_1 a_2 - a  b_1 - b` -> {a: (a_1, a_2), b: (b_1,)}, in file order."""
        kinds: dict[str, tuple[str, ...]] = {}
        members: list[str] = []
        words = iter(group.items[1:])
        for node in words:
            if (name := self.word(node)) != "-":
                members.append(name)
                continue
            category = next(words, None)
            if category is None or not members:
                self.fail(node.line, "a dash wants names before it and a category after it")
            if self.word(category) in kinds:
                self.fail(node.line, f"the category {self.word(category)} is listed twice")
            kinds[self.word(category)], members = tuple(members), []
        if members:
            self.fail(group.line, f"{members[0]} has no category: write `{members[0]} - CATEGORY`")
        return kinds

    def regions(self, group: _List) -> dict[str, Region]:
        regions: dict[str, Region] = {}
        for node in group.items[1:]:
            region = self.region(self.as_list(node))
            if region.name in regions:
                self.fail(node.line, f"a second region {region.name}")
            regions[region.name] = region
        return regions

    def region(self, node: _List) -> Region:
        if not node.items:
            self.fail(node.line, "an empty region")
        fields: dict[str, _List] = {}
        for item in node.items[1:]:
            entry = self.as_list(item)
            key = self.word(entry.items[0]) if entry.items else "()"
            if key not in (":target", ":ranges", ":yaw_rotation", ":rgba") or key in fields or len(entry.items) != 2:
                self.fail(entry.line, f"{key} is unknown here, repeated, or has no single value")
            fields[key] = entry
        if ":target" not in fields:
            self.fail(node.line, f"the region {self.word(node.items[0])} has no (:target ...)")

        def rows(key: str, width: int) -> tuple[tuple[float, ...], ...]:
            if key not in fields:
                return ()
            return tuple(self.numbers(row, width) for row in self.as_list(fields[key].items[1]).items)

        yaws, rgba = rows(":yaw_rotation", 2) or ((0.0, 0.0),), (0.0, 0.0, 1.0, 0.0)
        if len(yaws) != 1:
            self.fail(node.line, "a region has one yaw interval")
        if ":rgba" in fields:
            r, g, b, a = self.numbers(fields[":rgba"].items[1], 4)
            rgba = (r, g, b, a)
        target = self.words(fields[":target"])[0]
        return Region(
            name=f"{target}_{self.word(node.items[0])}",
            target=target,
            ranges=tuple((x0, y0, x1, y1) for x0, y0, x1, y1 in rows(":ranges", 4)),
            yaw=(yaws[0][0], yaws[0][1]),
            rgba=rgba,
        )

    def predicate(self, node: _Node, known: set[str]) -> Predicate:
        name, *arguments = [self.word(item) for item in self.as_list(node).items] or [""]
        if name not in PREDICATES:
            self.fail(node.line, f"unknown predicate {name!r}; known: {', '.join(PREDICATES)}")
        if len(arguments) != PREDICATES[name]:
            self.fail(node.line, f"`{name}` wants {PREDICATES[name]} names, not {len(arguments)}")
        if strangers := [argument for argument in arguments if argument not in known]:
            self.fail(node.line, f"{strangers[0]} is neither an object, nor a fixture, nor a region of this file")
        return (name, *arguments)

    def numbers(self, node: _Node, width: int) -> tuple[float, ...]:
        words = [self.word(item) for item in self.as_list(node).items]
        if len(words) != width:
            self.fail(node.line, f"expected {width} numbers, found {len(words)}")
        values = []
        for word in words:
            if not _NUMBER.fullmatch(word):
                self.fail(node.line, f"{word!r} is not a number")
            values.append(float(word))
        if not all(math.isfinite(value) for value in values):
            self.fail(node.line, "a number is too large")
        return tuple(values)

    def words(self, group: _List) -> list[str]:
        """All but the first, which is the group's name."""
        return [self.word(item) for item in group.items[1:]]

    def word(self, node: _Node) -> str:
        if isinstance(node, _List):
            self.fail(node.line, "a word is expected here, not a parenthesis")
        return node.text

    def as_list(self, node: _Node) -> _List:
        if isinstance(node, _Word):
            self.fail(node.line, f"a parenthesis is expected here, not {node.text!r}")
        return node


def _tokens(text: str) -> Iterator[tuple[int, str]]:
    for line, content in enumerate(text.lower().splitlines(), start=1):
        for token in re.findall(r"[()]|[^\s()]+", content.split(";", 1)[0]):
            yield line, token
