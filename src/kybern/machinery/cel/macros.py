"""Macros: `has`, `all`, `exists`, `map`, `optMap` and the like become plain trees. Called by parser.

Source: the CEL language definition, "Macros", and cel-go's extensions (optionals, lists, two-variable
comprehensions). Costs are counted on what they become, so the shapes are upstream's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from kybern.machinery.cel.ast import Call, Comprehension, Ident, ListLiteral, Literal, MapLiteral, Node, Select
from kybern.machinery.cel.errors import Issue

ACCUMULATOR: Final = "@result"
UNUSED: Final = "#unused"
_HELD: Final = "@held"
ADDED_DEPTH: Final = 5

_Make = Callable[[Node, list[Node], int], Node]


def expand(name: str, target: Node | None, args: list[Node], offset: int, issues: list[Issue]) -> Node | None:
    """The tree that a macro stands for; None if this is no macro. Faults are added to `issues`."""
    if target is None:
        return _has(args, offset, issues) if name == "has" and len(args) == 1 else None
    if name in ("optMap", "optFlatMap") and len(args) == 2:
        return _optional_map(name, target, args, offset, issues)
    make = _ONE_VARIABLE.get((name, len(args)))
    if make is not None:
        return make(target, args, offset) if _is_variable(args[0], issues) else target
    make = _TWO_VARIABLES.get((name, len(args)))
    if make is None:
        return None
    if not (_is_variable(args[0], issues) and _is_variable(args[1], issues)):
        return target
    if _name(args[0]) == _name(args[1]):
        issues.append(Issue(args[1].offset, f"duplicate variable name: {_name(args[0])}"))
        return target
    return make(target, args, offset)


def _is_variable(node: Node, issues: list[Issue]) -> bool:
    if isinstance(node, Ident) and not node.name.startswith("."):
        if node.name in (ACCUMULATOR, "__result__"):
            issues.append(Issue(node.offset, "iteration variable overwrites accumulator variable"))
            return False
        return True
    issues.append(Issue(node.offset, "argument must be a simple name"))
    return False


def _name(node: Node) -> str:
    assert isinstance(node, Ident)
    return node.name


def _has(args: list[Node], offset: int, issues: list[Issue]) -> Node:
    argument = args[0]
    if isinstance(argument, Select) and not argument.test and not argument.optional:
        return Select(offset, argument.operand, argument.field_name, test=True)
    issues.append(Issue(argument.offset, "invalid argument to has() macro"))
    return argument


def _bound(name: str, value: Node, body: Node, offset: int) -> Node:
    return Comprehension(
        offset, ListLiteral(offset, []), UNUSED, "", name, value, Literal(offset, False), Ident(offset, name), body
    )


def _optional_map(name: str, target: Node, args: list[Node], offset: int, issues: list[Issue]) -> Node:
    if not isinstance(args[0], Ident):
        issues.append(Issue(args[0].offset, f"{name}() variable name must be a simple identifier"))
        return target
    # Upstream repeats the target, so that a chain of these grows by powers of two; here it is a variable.
    held = Ident(offset, _HELD)
    body = _bound(args[0].name, Call(offset, "value", held, []), args[1], offset)
    if name == "optMap":
        body = Call(offset, "optional.of", None, [body])
    choice = Call(
        offset, "_?_:_", None, [Call(offset, "hasValue", held, []), body, Call(offset, "optional.none", None, [])]
    )
    return _bound(_HELD, target, choice, offset)


# -- comprehensions --------------------------------------------------------------------------------------------------


def _fold(
    target: Node, names: list[Node], offset: int, initial: Node, condition: Node, step: Node, result: Node | None = None
) -> Node:
    second = _name(names[1]) if len(names) > 1 else ""
    result = result if result is not None else _acc(offset)
    return Comprehension(offset, target, _name(names[0]), second, ACCUMULATOR, initial, condition, step, result)


def _acc(offset: int) -> Node:
    return Ident(offset, ACCUMULATOR)


def _all(target: Node, names: list[Node], predicate: Node, offset: int) -> Node:
    going = Call(offset, "@not_strictly_false", None, [_acc(offset)])
    step = Call(offset, "_&&_", None, [_acc(offset), predicate])
    return _fold(target, names, offset, Literal(offset, True), going, step)


def _exists(target: Node, names: list[Node], predicate: Node, offset: int) -> Node:
    going = Call(offset, "@not_strictly_false", None, [Call(offset, "!_", None, [_acc(offset)])])
    step = Call(offset, "_||_", None, [_acc(offset), predicate])
    return _fold(target, names, offset, Literal(offset, False), going, step)


def _exists_one(target: Node, names: list[Node], predicate: Node, offset: int) -> Node:
    more = Call(offset, "_+_", None, [_acc(offset), Literal(offset, 1)])
    step = Call(offset, "_?_:_", None, [predicate, more, _acc(offset)])
    result = Call(offset, "_==_", None, [_acc(offset), Literal(offset, 1)])
    return _fold(target, names, offset, Literal(offset, 0), Literal(offset, True), step, result)


def _map(target: Node, names: list[Node], keep: Node | None, value: Node, offset: int) -> Node:
    step: Node = Call(offset, "_+_", None, [_acc(offset), ListLiteral(offset, [value])])
    if keep is not None:
        step = Call(offset, "_?_:_", None, [keep, step, _acc(offset)])
    return _fold(target, names, offset, ListLiteral(offset, []), Literal(offset, True), step)


def _map_insert(target: Node, names: list[Node], keep: Node | None, entry: list[Node], offset: int) -> Node:
    step: Node = Call(offset, "cel.@mapInsert", None, [_acc(offset), *entry])
    if keep is not None:
        step = Call(offset, "_?_:_", None, [keep, step, _acc(offset)])
    return _fold(target, names, offset, MapLiteral(offset, []), Literal(offset, True), step)


def _sort_by(target: Node, args: list[Node], offset: int) -> Node:
    keys = _map(target, args[:1], None, args[1], offset)
    return Call(offset, "@sortByAssociatedKeys", target, [keys])


def _filter(target: Node, args: list[Node], offset: int) -> Node:
    return _map(target, args[:1], args[1], Ident(args[0].offset, _name(args[0])), offset)


_ONE_VARIABLE: Final[dict[tuple[str, int], _Make]] = {
    ("all", 2): lambda t, a, at: _all(t, a[:1], a[1], at),
    ("exists", 2): lambda t, a, at: _exists(t, a[:1], a[1], at),
    ("exists_one", 2): lambda t, a, at: _exists_one(t, a[:1], a[1], at),
    ("map", 2): lambda t, a, at: _map(t, a[:1], None, a[1], at),
    ("map", 3): lambda t, a, at: _map(t, a[:1], a[1], a[2], at),
    ("filter", 2): _filter,
    ("sortBy", 2): _sort_by,
}
_TWO_VARIABLES: Final[dict[tuple[str, int], _Make]] = {
    ("all", 3): lambda t, a, at: _all(t, a[:2], a[2], at),
    ("exists", 3): lambda t, a, at: _exists(t, a[:2], a[2], at),
    ("exists_one", 3): lambda t, a, at: _exists_one(t, a[:2], a[2], at),
    ("existsOne", 3): lambda t, a, at: _exists_one(t, a[:2], a[2], at),
    ("transformList", 3): lambda t, a, at: _map(t, a[:2], None, a[2], at),
    ("transformList", 4): lambda t, a, at: _map(t, a[:2], a[2], a[3], at),
    ("transformMap", 3): lambda t, a, at: _map_insert(t, a[:2], None, [a[0], a[2]], at),
    ("transformMap", 4): lambda t, a, at: _map_insert(t, a[:2], a[2], [a[0], a[3]], at),
    ("transformMapEntry", 3): lambda t, a, at: _map_insert(t, a[:2], None, [a[2]], at),
    ("transformMapEntry", 4): lambda t, a, at: _map_insert(t, a[:2], a[2], [a[3]], at),
}
