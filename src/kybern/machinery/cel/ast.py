"""The tree of an expression, as the parser makes it (macros already expanded) and the checker marks it with types.

Offsets count characters of the text and are where errors point at.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from kybern.machinery.cel.types import DYN, Type


@dataclass(slots=True, eq=False)
class Node:
    offset: int
    type: Type = field(default=DYN, init=False)  # set by the checker
    depth: int = field(default=1, init=False)  # of the tree below and with it; set by the parser


@dataclass(slots=True, eq=False)
class Literal(Node):
    value: Any  # None, bool, int, Uint, float, str, bytes


@dataclass(slots=True, eq=False)
class Ident(Node):
    name: str


@dataclass(slots=True, eq=False)
class Select(Node):
    """`operand.field`, `operand.?field` if optional, `has(operand.field)` if test."""

    operand: Node
    field_name: str
    test: bool = False
    optional: bool = False


@dataclass(slots=True, eq=False)
class Call(Node):
    """`function(args)` or `target.function(args)`; operators are `_+_`, `_[_]`, `_?_:_`, `!_` and so on."""

    function: str
    target: Node | None
    args: list[Node]
    # The overloads that the argument types allow: (id, ...). Set by the checker.
    overloads: tuple[str, ...] = field(default=(), init=False)

    @property
    def operands(self) -> list[Node]:
        return self.args if self.target is None else [self.target, *self.args]


@dataclass(slots=True, eq=False)
class ListLiteral(Node):
    elements: list[Node]
    optional: frozenset[int] = frozenset()  # the elements written `?x`


@dataclass(slots=True, eq=False)
class MapEntry:
    offset: int
    key: Node
    value: Node
    optional: bool = False


@dataclass(slots=True, eq=False)
class MapLiteral(Node):
    entries: list[MapEntry]


@dataclass(slots=True, eq=False)
class FieldEntry:
    offset: int
    name: str
    value: Node
    optional: bool = False


@dataclass(slots=True, eq=False)
class StructLiteral(Node):
    """`Type.name{field: value}`."""

    name: str
    fields: list[FieldEntry]


@dataclass(slots=True, eq=False)
class Comprehension(Node):
    """What macros become: fold `range` into `accumulator`, as long as `condition` holds; then `result`.

    With two variables the first is the index or key, the second the value; with one it is the element or the key.
    """

    range: Node
    variable: str
    second: str  # "" with one variable
    accumulator: str
    initial: Node
    condition: Node
    step: Node
    result: Node


def qualified_name(node: Node) -> str | None:
    """`a.b.c` of plain selects over an identifier; None for anything else."""
    parts: list[str] = []
    while isinstance(node, Select) and not node.test and not node.optional:
        parts.append(node.field_name)
        node = node.operand
    if not isinstance(node, Ident):
        return None
    parts.append(node.name)
    return ".".join(reversed(parts))
