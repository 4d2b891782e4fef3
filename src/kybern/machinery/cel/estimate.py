"""What an expression may cost at most, before anything runs: from the sizes that its schema allows.

Called by custom resources when a definition is written; policies have no schema to rely on, and are bounded when they
run. Source: cel-go's description of cost estimation ("cel/README: cost"), and the factors in an API server's refusals.
Costs above 2**64-1 are that.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from kybern.machinery.cel import sizes, types
from kybern.machinery.cel.ast import (
    Call,
    Comprehension,
    Ident,
    ListLiteral,
    Literal,
    MapLiteral,
    Node,
    Select,
    StructLiteral,
)
from kybern.machinery.cel.evaluate import LIST_COST, MAP_COST, STRUCT_COST
from kybern.machinery.cel.schema_types import Schema
from kybern.machinery.cel.types import Type
from kybern.pausing import pause

UNBOUNDED: Final = 2**64 - 1
# kube-apiserver: what one rule and all rules of a definition may be estimated at.
RULE_LIMIT: Final = 10_000_000
DEFINITION_LIMIT: Final = 100_000_000
_AUTHORIZER_CHECK: Final = 350_000
_SCALARS: Final = frozenset({"bool", "int", "uint", "double", "timestamp", "duration", "null"})


@dataclass(frozen=True, slots=True)
class _Found:
    """Of a node: what it costs, how many parts its value may have (None: nobody knows), and where it is in the schema.

    A path begins with a variable's name; values that are made on the way have none.
    """

    cost: int
    size: int | None = None
    path: tuple[str, ...] = ()


def cost_of(node: Node, root: Schema | None) -> int:
    """The most that one evaluation costs. `root` is the schema of `self` and `oldSelf`."""
    return _Estimate(root).cost(node)


def _capped(number: int) -> int:
    return min(number, UNBOUNDED)


def _part(size: int, factor: float) -> int:
    return UNBOUNDED if size >= UNBOUNDED else math.ceil(size * factor)


class _Estimate:
    def __init__(self, root: Schema | None) -> None:
        self._root = root
        self._scopes: list[dict[str, _Found]] = []

    def cost(self, node: Node) -> int:
        return self._find(node).cost

    # -- sizes ---------------------------------------------------------------------------------------------------

    def _schema_at(self, path: tuple[str, ...]) -> Schema | None:
        at = self._root
        for name in path[1:]:
            if at is None:
                return None
            if name in ("@items", "@values"):
                at = at.element
            elif name == "@keys":
                return _KEY if at.kind == "map" else None
            else:
                declared = at.property(name)
                at = declared.schema if declared is not None else None
        return at

    def _size(self, found: _Found, kind: Type) -> int:
        if found.size is not None:
            return found.size
        if found.path:
            schema = self._schema_at(found.path)
            if schema is not None:
                return sizes.max_elements(schema)
        is_one = kind.kind in _SCALARS or (kind.kind == "opaque" and not types.is_optional(kind))
        return 1 if is_one else UNBOUNDED

    def size_of(self, node: Node) -> int:
        return self._size(self._find(node), node.type)

    # -- nodes ---------------------------------------------------------------------------------------------------

    def _find(self, node: Node) -> _Found:
        pause()
        match node:
            case Literal():
                return _Found(0, len(node.value) if isinstance(node.value, str | bytes) else 1)
            case Ident():
                return self._ident(node)
            case Select():
                return self._select(node)
            case ListLiteral():
                cost = LIST_COST + sum(self.cost(e) for e in node.elements)
                return _Found(_capped(cost), len(node.elements))
            case MapLiteral():
                cost = MAP_COST + sum(self.cost(e.key) + self.cost(e.value) for e in node.entries)
                return _Found(_capped(cost), len(node.entries))
            case StructLiteral():
                return _Found(_capped(STRUCT_COST + sum(self.cost(f.value) for f in node.fields)))
            case Comprehension():
                return self._comprehension(node)
            case Call():
                return self._call(node)
        raise AssertionError(node)

    def _ident(self, node: Ident) -> _Found:
        for scope in reversed(self._scopes):
            if node.name in scope:
                known = scope[node.name]
                return _Found(1, known.size, known.path)
        return _Found(1, path=(node.name,))

    def _select(self, node: Select) -> _Found:
        if node.type.kind == "type" and not node.test:
            return _Found(1, 0)  # the name of a type
        operand = self._find(node.operand)
        if node.test:
            return _Found(operand.cost)
        return _Found(_capped(operand.cost + 1), path=(*operand.path, node.field_name))

    def _comprehension(self, node: Comprehension) -> _Found:
        over = self._find(node.range)
        initial = self._find(node.initial)
        is_binding = isinstance(node.range, ListLiteral) and not node.range.elements
        self._scopes.append({node.accumulator: _Found(0, initial.size if is_binding else None, initial.path)})
        self._scopes.append(self._variables(node, over))
        each = self.cost(node.condition) + self.cost(node.step)
        self._scopes.pop()
        result = self._find(node.result)
        self._scopes.pop()
        count = 0 if is_binding else self._size(over, node.range.type)
        total = over.cost + initial.cost + result.cost + _capped(count * each)
        size = result.size if is_binding else count if node.type.kind in ("list", "map") else None
        return _Found(_capped(total), size, result.path if is_binding else ())

    def _variables(self, node: Comprehension, over: _Found) -> dict[str, _Found]:
        is_map = node.range.type.kind == "map"
        if node.second:
            first = _Found(0, path=(*over.path, "@keys")) if is_map else _Found(0, 1)
            return {
                node.variable: first,
                node.second: _Found(0, path=(*over.path, "@values" if is_map else "@items")),
            }
        return {node.variable: _Found(0, path=(*over.path, "@keys" if is_map else "@items"))}

    def _call(self, node: Call) -> _Found:
        parts = [self._find(part) for part in node.operands]
        cost = _capped(sum(part.cost for part in parts))
        if node.function in ("_&&_", "_||_"):
            return _Found(cost)
        if node.function == "_?_:_":
            size = max(self._size(p, n.type) for p, n in zip(parts[1:], node.args[1:], strict=True))
            return _Found(_capped(parts[0].cost + max(parts[1].cost, parts[2].cost)), size)
        if node.function == "dyn":
            return _Found(_capped(cost + 1), self._size(parts[0], node.args[0].type))
        if node.function == "_[_]":
            return _Found(_capped(cost + 1), path=(*parts[0].path, _inside(node.args[0].type)))
        measured = [self._size(p, n.type) for p, n in zip(parts, node.operands, strict=True)]
        if node.function in _ELEMENTWISE:
            element = _Found(0, path=(*parts[0].path, "@items") if parts[0].path else ())
            kinds = node.operands[0].type.params
            measured.append(self._size(element, kinds[0] if kinds else node.operands[0].type))
        own, made = _own_cost(node, measured)
        return _Found(_capped(cost + own), made)


_KEY: Final = Schema("int", Type("string"))  # keys count for nothing, as upstream has it


def _inside(container: Type) -> str:
    return "@values" if container.kind == "map" else "@items"


# -- functions: (sizes of the operands) -> (cost, size of the result) -------------------------------------------------

_Priced = tuple[int, int | None]
_Price = Callable[[list[int]], _Priced]


def _own_cost(node: Call, measured: list[int]) -> _Priced:
    kinds = [part.type.kind for part in node.operands]
    if node.function in _COMPARED and (node.function in ("_==_", "_!=_") or kinds[0] in ("string", "bytes")):
        return _part(min(measured[0], measured[1]), 0.1), None
    if node.function == "_+_" and kinds[0] in ("string", "bytes", "list"):
        together = _capped(measured[0] + measured[1])
        return (1 if kinds[0] == "list" else _part(together, 0.1)), together
    if node.function == "@in":
        return (measured[1] if kinds[1] == "list" else 1), None
    if node.function in ("string", "bytes") and kinds[0] in ("string", "bytes") and node.type.kind != kinds[0]:
        return _part(measured[0], 0.1), _capped(measured[0] * 4) if node.function == "bytes" else measured[0]
    if node.function == "matches" and node.target is None:
        return 1, None
    if node.function in ("indexOf", "lastIndexOf") and kinds[0] == "list":
        return _elementwise(measured)
    if node.function in ("containsIP", "containsCIDR"):
        base = 4 if node.function == "containsIP" else 7
        return base + (_part(measured[1], 0.1) if kinds[1] == "string" else 0), None
    if node.function == "reverse" and kinds[0] == "string":
        return _part(measured[0], 0.1), measured[0]
    constants = [a.value for a in node.args if isinstance(a, Literal) and type(a.value) is int]
    if node.function == "slice" and len(constants) == 2:
        return _made_list([max(0, constants[1] - constants[0])])
    if node.function == "lists.range" and constants:
        return _made_list([max(0, constants[0])])
    if node.function == "split" and constants and constants[0] >= 0:
        return _part(measured[0], 0.2), min(measured[0], constants[0])
    price = _PRICES.get(node.function)
    return price(measured) if price is not None else (1, None)


def _times(a: int, b: int) -> int:
    return _capped(a * b)


def _elementwise(m: list[int]) -> _Priced:
    return _times(m[0], 1 + _part(m[-1], 0.1)), None


def _best(m: list[int]) -> _Priced:
    return _times(m[0], 1 + _part(m[-1], 0.1)), m[-1]


def _traversal(m: list[int]) -> _Priced:
    return _part(m[0], 0.1), None


def _same_length(m: list[int]) -> _Priced:
    return _part(m[0], 0.1), m[0]


def _double_traversal(m: list[int]) -> _Priced:
    return _part(m[0], 0.2), m[0]


def _contains(m: list[int]) -> _Priced:
    return _times(_part(m[0], 0.1), _part(m[1], 0.1)), None


def _regex(m: list[int]) -> _Priced:
    return _times(_part(_capped(m[0] + 1), 0.1), _part(m[1], 0.25)), m[0]


def _replaced(m: list[int]) -> _Priced:
    old, new = max(1, m[1]), m[2]
    grown = m[0] if new <= old else _times(math.ceil(m[0] / old), new)
    return _part(m[0], 0.2), max(m[0], grown)


def _joined(m: list[int]) -> _Priced:
    mark = m[1] if len(m) > 2 else 0
    total = _capped(_times(m[0], m[-1]) + _times(max(0, m[0] - 1), mark))
    return _part(total, 0.1), total


def _made_list(m: list[int]) -> _Priced:
    return _capped(LIST_COST + m[0] + 1), m[0]


def _sorted(m: list[int]) -> _Priced:
    return _capped(LIST_COST + 1 + 2 * _times(m[0], m[0])), m[0]


def _sets(m: list[int]) -> _Priced:
    return _capped(_times(m[0], m[1]) + 1), None


_COMPARED: Final = frozenset({"_==_", "_!=_", "_<_", "_<=_", "_>_", "_>=_"})
_ELEMENTWISE: Final = frozenset({"isSorted", "sum", "min", "max", "indexOf", "lastIndexOf", "join"})
_PRICES: Final[dict[str, _Price]] = {
    "isSorted": _elementwise,
    "sum": _elementwise,
    "min": _best,
    "max": _best,
    "distinct": _sorted,
    "sort": _sorted,
    "@sortByAssociatedKeys": _sorted,
    "reverse": _made_list,
    "slice": _made_list,
    "flatten": lambda m: (_capped(LIST_COST + m[0] * (m[1] if len(m) > 1 else 1) + 1), None),
    "lists.range": lambda m: (UNBOUNDED, UNBOUNDED),
    "sets.contains": _sets,
    "sets.intersects": _sets,
    "sets.equivalent": lambda m: (_capped(2 * _times(m[0], m[1]) + 1), None),
    "contains": _contains,
    "indexOf": _contains,
    "lastIndexOf": _contains,
    "startsWith": lambda m: (_part(m[1], 0.1), None),
    "endsWith": lambda m: (_part(m[1], 0.1), None),
    "matches": _regex,
    "find": _regex,
    "findAll": _regex,
    "lowerAscii": _same_length,
    "upperAscii": _same_length,
    "substring": _same_length,
    "trim": _same_length,
    "charAt": lambda _: (1, 1),
    "split": _double_traversal,
    "replace": _replaced,
    "join": _joined,
    "format": lambda m: (_part(m[0], 0.1), None),
    "strings.quote": lambda m: (_part(m[0], 0.1), _capped(2 * m[0] + 2)),
    "url": _traversal,
    "quantity": _traversal,
    "isQuantity": _traversal,
    "ip": _traversal,
    "isIP": _traversal,
    "ip.isCanonical": _double_traversal,
    "cidr": _traversal,
    "isCIDR": _traversal,
    "semver": _traversal,
    "isSemver": _traversal,
    "validate": lambda m: (_times(_part(m[1], 0.1), 32), None),
    "check": lambda _: (_AUTHORIZER_CHECK, None),
}
