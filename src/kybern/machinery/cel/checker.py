"""Find the type of every node of a tree, and the overloads that each call may mean. Reads declarations and types.

Called by program. Source: the CEL language definition, "Type checking". The messages are upstream's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from kybern.machinery.cel import types
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
    qualified_name,
)
from kybern.machinery.cel.declarations import Functions
from kybern.machinery.cel.errors import CelError, Issue
from kybern.machinery.cel.types import DYN, ERROR, ObjectField, ObjectType, Type
from kybern.machinery.cel.values import Uint
from kybern.pausing import pause

_LITERALS: Final = {
    bool: types.BOOL,
    int: types.INT,
    Uint: types.UINT,
    float: types.DOUBLE,
    str: types.STRING,
    bytes: types.BYTES,
    type(None): types.NULL,
}
# Types of libraries that expressions may name.
_OPAQUE: Final = frozenset({"net.IP", "net.CIDR"})
_MAX_ISSUES: Final = 100


class Checker:
    """One check of one tree."""

    def __init__(
        self, text: str, variables: Mapping[str, Type], functions: Functions, objects: Mapping[str, ObjectType]
    ) -> None:
        self._text = text
        self._variables = variables
        self._functions = functions
        self._objects = objects
        self._scopes: list[dict[str, Type]] = []
        self._bound: types.Bindings = {}
        self._fresh = 0
        self._issues: list[Issue] = []
        self._nodes: list[Node] = []

    def check(self, node: Node) -> Type:
        """Mark the tree; returns its type. Raises CelError."""
        self._check(node)
        if self._issues:
            raise CelError(self._text, sorted(self._issues, key=lambda i: i.offset))
        for each in self._nodes:
            each.type = self._resolved(each.type)
        return node.type

    def _resolved(self, t: Type) -> Type:
        return types.substitute(self._bound, t, unbound_to_dyn=True)

    def _known(self, t: Type) -> Type:
        return types.substitute(self._bound, t, unbound_to_dyn=False)

    def _fault(self, offset: int, message: str) -> Type:
        if len(self._issues) < _MAX_ISSUES:
            self._issues.append(Issue(offset, message))
        return ERROR

    def _new_param(self) -> Type:
        self._fresh += 1
        return types.param(f"_var{self._fresh}")

    def _fits(self, given: Type, wanted: Type) -> bool:
        trial = types.are_assignable(self._bound, (given,), (wanted,))
        if trial is None:
            return False
        self._bound = trial
        return True

    # -- nodes ---------------------------------------------------------------------------------------------------

    def _check(self, node: Node) -> Type:
        pause()
        match node:
            case Literal():
                found = _LITERALS[type(node.value)]
            case Ident():
                found = self._ident(node)
            case Select():
                found = self._select(node)
            case Call():
                found = self._call(node)
            case ListLiteral():
                found = self._list(node)
            case MapLiteral():
                found = self._map(node)
            case StructLiteral():
                found = self._struct(node)
            case Comprehension():
                found = self._comprehension(node)
            case _:
                raise AssertionError(node)
        node.type = found
        self._nodes.append(node)
        return found

    def _ident(self, node: Ident) -> Type:
        name = node.name.removeprefix(".")
        found = self._look_up(name, local=name == node.name)
        if found is None:
            return self._fault(node.offset, f"undeclared reference to '{name}' (in container '')")
        return found

    def _look_up(self, name: str, *, local: bool = True) -> Type | None:
        if local:
            for scope in reversed(self._scopes):
                if name in scope:
                    return scope[name]
        found = self._variables.get(name)
        if found is not None:
            return found
        named = types.SCALARS.get(name)
        if named is not None and name not in ("timestamp", "duration", "null"):
            return types.type_of(named)
        if name in _OPAQUE:
            return types.type_of(types.opaque(name))
        if name in self._objects:
            return types.type_of(self._objects[name].type)
        return None

    def _select(self, node: Select) -> Type:
        name = None if node.test or node.optional else qualified_name(node)
        if name is not None and "." in name:
            root = name.partition(".")[0]
            if not any(root in scope for scope in self._scopes) and (
                root not in self._variables or name in self._variables
            ):
                found = self._look_up(name.removeprefix("."), local=False)
                if found is not None:
                    return found
        operand = self._known(self._check(node.operand))
        chained = types.is_optional(operand)
        inner = self._field(node, operand.params[0] if chained else operand)
        if node.test:
            return types.BOOL if inner != ERROR else ERROR
        if node.optional or chained:
            return inner if inner == ERROR or types.is_optional(inner) else types.optional(inner)
        return inner

    def _field(self, node: Select, operand: Type) -> Type:
        if operand.kind == "map":
            return operand.params[1]
        if operand.kind == "object":
            found = self.field_of(operand, node.field_name)
            if found is None:
                return self._fault(node.offset, f"undefined field '{node.field_name}'")
            return found.type
        if operand.kind == "param":
            # Nothing is known of it yet: it is taken for dyn from here on.
            self._fits(DYN, operand)
            return DYN
        if types.is_dyn(operand):
            return DYN
        return self._fault(node.offset, f"type '{operand}' does not support field selection")

    def field_of(self, t: Type, name: str) -> ObjectField | None:
        declared = self._objects.get(t.name)
        return declared.fields.get(name) if declared is not None else None

    def _list(self, node: ListLiteral) -> Type:
        element: Type | None = None
        for index, item in enumerate(node.elements):
            found = self._check(item)
            if index in node.optional:
                found = self._unwrapped(item, found)
            element = self._joined(element, found)
        return types.list_of(element if element is not None else self._new_param())

    def _map(self, node: MapLiteral) -> Type:
        key: Type | None = None
        value: Type | None = None
        for entry in node.entries:
            key = self._joined(key, self._check(entry.key))
            found = self._check(entry.value)
            if entry.optional:
                found = self._unwrapped(entry.value, found)
            value = self._joined(value, found)
        if key is None or value is None:
            return types.map_of(self._new_param(), self._new_param())
        return types.map_of(key, value)

    def _unwrapped(self, node: Node, found: Type) -> Type:
        known = self._known(found)
        if types.is_dyn(known):
            return known
        if not types.is_optional(known):
            return self._fault(node.offset, f"expected type 'optional_type({known})' but found '{known}'")
        return known.params[0]

    def _joined(self, before: Type | None, found: Type) -> Type:
        """What the elements of a literal have in common; validators ask for one type."""
        if before is None:
            return found
        if self._fits(found, before):
            return types.most_general(before, found)
        return DYN

    def _struct(self, node: StructLiteral) -> Type:
        name = node.name.removeprefix(".")
        declared = self._objects.get(name)
        if declared is None:
            for entry in node.fields:
                self._check(entry.value)
            if name in types.SCALARS:
                return self._fault(node.offset, f"'{name}' is not a message type")
            known = self._look_up(name)
            if known is not None:
                return self._fault(node.offset, f"'{known}' is not a type")
            return self._fault(node.offset, f"undeclared reference to '{name}' (in container '')")
        for entry in node.fields:
            given = self._check(entry.value)
            if entry.optional:
                given = self._unwrapped(entry.value, given)
            wanted = declared.fields.get(entry.name)
            if wanted is None:
                self._fault(entry.offset, f"undefined field '{entry.name}'")
            elif not self._fits(given, wanted.type):
                self._fault(
                    entry.offset,
                    f"expected type of field '{entry.name}' is '{wanted.type}' but provided type is "
                    f"'{self._known(given)}'",
                )
        return declared.type

    # -- calls ---------------------------------------------------------------------------------------------------

    def _call(self, node: Call) -> Type:
        if node.target is not None:
            qualified = qualified_name(node.target)
            name = f"{qualified}.{node.function}".removeprefix(".") if qualified is not None else ""
            if name in self._functions and not self._is_variable(qualified or ""):
                node.function, node.target = name, None
        node.function = node.function.removeprefix(".")
        given = tuple(self._check(part) for part in node.operands)
        if node.function in ("_&&_", "_||_"):
            return self._logic(node, given)
        declared = self._functions.get(node.function)
        if declared is None:
            return self._fault(node.offset, f"undeclared reference to '{node.function}' (in container '')")
        return self._resolve(node, given)

    def _logic(self, node: Call, given: tuple[Type, ...]) -> Type:
        for part, found in zip(node.args, given, strict=True):
            if not self._fits(found, types.BOOL):
                self._fault(part.offset, f"expected type 'bool' but found '{self._known(found)}'")
        return types.BOOL

    def _is_variable(self, name: str) -> bool:
        root = name.partition(".")[0]
        return root in self._variables or any(root in scope for scope in self._scopes)

    def _resolve(self, node: Call, given: tuple[Type, ...]) -> Type:
        result: Type | None = None
        chosen: list[str] = []
        is_method = node.target is not None
        for overload in self._functions[node.function]:
            if overload.is_method is not is_method or len(overload.args) != len(given):
                continue
            wanted, gives = overload.args, overload.result
            if any(_has_params(t) for t in (*wanted, gives)):
                fresh: types.Bindings = {}
                wanted = tuple(self._renamed(t, fresh) for t in wanted)
                gives = self._renamed(gives, fresh)
            trial = types.are_assignable(self._bound, given, wanted)
            if trial is None:
                continue
            self._bound = trial
            chosen.append(overload.id)
            found = self._known(gives)
            if result is None:
                result = found
            elif found != result:
                result = DYN
        node.overloads = tuple(chosen)
        if result is None:
            return self._fault(node.offset, self._no_overload(node, given))
        return result

    def _no_overload(self, node: Call, given: tuple[Type, ...]) -> str:
        shown = [str(self._resolved(t)) for t in given]
        if node.target is not None:
            return f"found no matching overload for '{node.function}' applied to '{shown[0]}.({', '.join(shown[1:])})'"
        return f"found no matching overload for '{node.function}' applied to '({', '.join(shown)})'"

    def _renamed(self, t: Type, fresh: types.Bindings) -> Type:
        if t.kind == "param":
            if t.name not in fresh:
                fresh[t.name] = self._new_param()
            return fresh[t.name]
        if not t.params:
            return t
        return Type(t.kind, t.name, tuple(self._renamed(p, fresh) for p in t.params))

    # -- comprehensions ------------------------------------------------------------------------------------------

    def _comprehension(self, node: Comprehension) -> Type:
        over = self._known(self._check(node.range))
        initial = self._check(node.initial)
        names = self._variables_of(node, over)
        self._scopes.append({node.accumulator: initial})
        self._scopes.append(names)
        condition = self._check(node.condition)
        if not self._fits(condition, types.BOOL):
            self._fault(node.condition.offset, f"expected type 'bool' but found '{self._known(condition)}'")
        step = self._check(node.step)
        if not self._fits(step, initial):
            self._fault(node.step.offset, f"expected type '{self._known(initial)}' but found '{self._known(step)}'")
        self._scopes.pop()
        result = self._check(node.result)
        self._scopes.pop()
        return self._known(result)

    def _variables_of(self, node: Comprehension, over: Type) -> dict[str, Type]:
        if over.kind == "list":
            if node.second:
                return {node.variable: types.INT, node.second: over.params[0]}
            return {node.variable: over.params[0]}
        if over.kind == "map":
            if node.second:
                return {node.variable: over.params[0], node.second: over.params[1]}
            return {node.variable: over.params[0]}
        if over.kind == "param":
            self._fits(DYN, over)
        elif not types.is_dyn(over):
            self._fault(
                node.range.offset,
                f"expression of type '{over}' cannot be range of a comprehension (must be list, map, or dynamic)",
            )
            over = ERROR
        return {node.variable: DYN, node.second: DYN} if node.second else {node.variable: DYN}


def _has_params(t: Type) -> bool:
    return t.kind == "param" or any(_has_params(p) for p in t.params)
