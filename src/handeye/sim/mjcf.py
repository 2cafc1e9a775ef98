"""Writing MJCF: elements from keyword arguments, numbers exactly as Python has them."""

from __future__ import annotations

from collections.abc import Iterable
from xml.etree import ElementTree

Number = int | float
Value = str | Number | Iterable[Number]
Attributes = dict[str, Value]


def element(tag: str, /, **attributes: Value) -> ElementTree.Element:
    """`element("geom", size=(0.1, 0.2, 0.3), kind="box")`; `kind` stands for MJCF's `type`."""
    return ElementTree.Element(tag, {"type" if key == "kind" else key: text(v) for key, v in attributes.items()})


def add(parent: ElementTree.Element, tag: str, /, **attributes: Value) -> ElementTree.Element:
    """Append a new element and return it."""
    made = element(tag, **attributes)
    parent.append(made)
    return made


def text(value: Value) -> str:
    """The shortest decimals that read back as the same doubles."""
    if isinstance(value, str):
        return value
    if isinstance(value, int | float):
        return repr(value)
    return " ".join(text(number) for number in value)


def document(root: ElementTree.Element) -> str:
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode")
