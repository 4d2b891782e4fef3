"""Turn a checked tree into nested closures that compute its value and count what that costs.

Called by program. Source of the costs: cel-go's run-time cost tracking, as the Kubernetes documentation describes it
("CEL in Kubernetes: cost"). Promise: no evaluation goes far beyond its limit; every loop and every call pays.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from kybern.machinery.cel import values
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
from kybern.machinery.cel.errors import CostExceeded, EvaluationError, no_overload
from kybern.machinery.cel.functions import Implementation, Table
from kybern.machinery.cel.types import ObjectType, Type
from kybern.machinery.cel.values import ABSENT, LISTS, ObjectBase, Optional
from kybern.pausing import pause

LIST_COST: Final = 10
MAP_COST: Final = 30
STRUCT_COST: Final = 40
# What is spent between two places where an evaluation may be interrupted: a tenth of a millisecond to one.
PAUSE: Final = 200

# Calls that are computed once, when the program is made, if all their arguments are constants.
FOLDED: Final = frozenset({"int", "uint", "double", "bool", "string", "bytes"})


class Frame:
    """One evaluation: the inputs, the variables of macros, and what was spent."""

    __slots__ = ("_most", "bindings", "cost", "limit", "slots")

    def __init__(self, bindings: Mapping[str, Any], slots: int, limit: int) -> None:
        self.bindings = bindings
        self.slots: list[Any] = [None] * slots
        self.cost = 0
        self._most = limit
        self.limit = min(limit, PAUSE)  # where to stop next, at the end or for a pause

    def pay(self, cost: int) -> None:
        self.cost += cost
        if self.cost > self.limit:
            self.stop()

    def stop(self) -> None:
        """The limit is passed: raises CostExceeded if it is the last one."""
        if self.cost > self._most:
            raise CostExceeded()
        pause()
        self.limit = min(self._most, self.cost + PAUSE)


Step = Callable[[Frame], Any]


class Builder:
    """One tree to closures."""

    def __init__(self, table: Table, objects: Mapping[str, ObjectType], variables: Mapping[str, Any]) -> None:
        self._table = table
        self._objects = objects
        self._variables = variables
        self._scopes: list[dict[str, int]] = []
        self.slots = 0

    def build(self, node: Node) -> Step:
        pause()
        match node:
            case Literal():
                return _constant(node.value)
            case Ident():
                return self._ident(node)
            case Select():
                return self._select(node)
            case Call():
                return self._call(node)
            case ListLiteral():
                return self._list(node)
            case MapLiteral():
                return self._map(node)
            case StructLiteral():
                return self._struct(node)
            case Comprehension():
                return self._comprehension(node)
        raise AssertionError(node)

    # -- names and fields ----------------------------------------------------------------------------------------

    def _slot(self, name: str) -> int | None:
        for scope in reversed(self._scopes):
            if name in scope:
                return scope[name]
        return None

    def _ident(self, node: Ident) -> Step:
        name = node.name.removeprefix(".")
        slot = self._slot(name) if name == node.name else None
        if slot is not None:
            return _local(slot)
        if name not in self._variables and node.type.kind == "type":
            return _constant(_type_value(node.type.params[0]))
        return _variable(name)

    def _select(self, node: Select) -> Step:
        if node.type.kind == "type":
            return _constant(_type_value(node.type.params[0]))
        qualified = None if node.test or node.optional else qualified_name(node)
        if qualified in self._variables and self._slot(str(qualified).partition(".")[0]) is None:
            return _variable(str(qualified))  # `authorizer.requestResource`
        operand, name = self.build(node.operand), node.field_name
        if node.test:

            def test(frame: Frame) -> Any:
                return has_field(operand(frame), name)

            return test
        if node.optional:

            def optional(frame: Frame) -> Any:
                frame.cost += 1
                return optional_field(operand(frame), name)

            return optional

        def select(frame: Frame) -> Any:
            value = operand(frame)
            frame.cost += 1
            if type(value) is dict:
                try:
                    return value[name]
                except KeyError:
                    raise EvaluationError(f"no such key: {name}") from None
            return get_field(value, name)

        return select

    # -- literals ------------------------------------------------------------------------------------------------

    def _list(self, node: ListLiteral) -> Step:
        if node.elements and not node.optional and all(_is_constant(e) for e in node.elements):
            return _constant([_constant_value(e) for e in node.elements])
        steps = [(self.build(e), i in node.optional) for i, e in enumerate(node.elements)]

        def make(frame: Frame) -> Any:
            found = []
            for step, optional in steps:
                value = step(frame)
                if not optional:
                    found.append(value)
                elif type(value) is not Optional:
                    raise no_overload()
                elif value.present:
                    found.append(value.value)
            frame.pay(LIST_COST)
            return found

        return make

    def _map(self, node: MapLiteral) -> Step:
        steps = [(self.build(e.key), self.build(e.value), e.optional) for e in node.entries]

        def make(frame: Frame) -> Any:
            found: dict[Any, Any] = {}
            for key_step, value_step, optional in steps:
                key = key_step(frame)
                key = values.BoolKey(key) if type(key) is bool else _hashable(key)
                value = value_step(frame)
                if optional:
                    if type(value) is not Optional:
                        raise no_overload()
                    if not value.present:
                        continue
                    value = value.value
                found[key] = value
            frame.pay(MAP_COST)
            return found

        return make

    def _struct(self, node: StructLiteral) -> Step:
        declared = self._objects[node.name.removeprefix(".")]
        steps = [(f.name, self.build(f.value), f.optional) for f in node.fields]

        def make(frame: Frame) -> Any:
            found: dict[str, Any] = {}
            for name, step, optional in steps:
                value = step(frame)
                if optional:
                    if type(value) is not Optional:
                        raise no_overload()
                    if not value.present:
                        continue
                    value = value.value
                found[name] = value
            frame.pay(STRUCT_COST)
            return values.Struct(declared.name, found)

        return make

    # -- calls ---------------------------------------------------------------------------------------------------

    def _call(self, node: Call) -> Step:
        steps = [self.build(part) for part in node.operands]
        special = _SPECIAL.get(node.function)
        if special is not None:
            return special(*steps)
        implementation = self._table[node.function, len(steps)]
        if node.function in FOLDED and all(isinstance(part, Literal) for part in node.operands):
            args = [part.value for part in node.operands if isinstance(part, Literal)]
            return _constant(implementation.resolve(tuple(map(type, args)))[0](*args))
        if len(steps) == 1:
            return _call_one(implementation, steps[0])
        if len(steps) == 2:
            return _call_two(implementation, *steps)
        return _call_many(implementation, steps)

    def _comprehension(self, node: Comprehension) -> Step:
        over = self.build(node.range)
        initial = self.build(node.initial)
        accumulator, first = self.slots, self.slots + 1
        second = self.slots + 2 if node.second else -1
        self.slots += 3 if node.second else 2
        self._scopes.append({node.accumulator: accumulator})
        if not node.variable.startswith("#"):
            self._scopes.append({node.variable: first} | ({node.second: second} if node.second else {}))
        condition, step = self.build(node.condition), self._growing(node, accumulator) or self.build(node.step)
        if not node.variable.startswith("#"):
            self._scopes.pop()
        result = self.build(node.result)
        self._scopes.pop()
        if isinstance(node.range, ListLiteral) and not node.range.elements:

            def bind(frame: Frame) -> Any:
                # cel.bind: a variable, no loop.
                frame.pay(LIST_COST)
                frame.slots[accumulator] = initial(frame)
                return result(frame)

            return bind

        def fold(frame: Frame) -> Any:
            items = over(frame)
            slots = frame.slots
            slots[accumulator] = initial(frame)
            for one, two in _pairs(items) if second >= 0 else _singles(items):
                slots[first] = one
                if second >= 0:
                    slots[second] = two
                if condition(frame) is not True:
                    break
                # A failing predicate is kept: a later one may decide all the same.
                try:
                    slots[accumulator] = step(frame)
                except EvaluationError as error:
                    slots[accumulator] = error
                frame.pay(0)
            return result(frame)

        return fold

    def _growing(self, node: Comprehension, slot: int) -> Step | None:
        """The step of `map`, `filter` and `transformMap`: the accumulator is nobody else's, and grows in place."""
        step = node.step
        condition: Step | None = None
        if isinstance(step, Call) and step.function == "_?_:_" and _reads(step.args[2], node.accumulator):
            condition, step = self.build(step.args[0]), step.args[1]
        if not isinstance(step, Call) or not step.args or not _reads(step.args[0], node.accumulator):
            return None
        if step.function == "_+_" and isinstance(step.args[1], ListLiteral) and not step.args[1].optional:
            if len(step.args[1].elements) != 1:
                return None
            return _append(slot, condition, self.build(step.args[1].elements[0]))
        if step.function == "cel.@mapInsert":
            return _insert(slot, condition, [self.build(a) for a in step.args[1:]])
        return None


_TYPE_NAMES: Final = {
    "timestamp": "google.protobuf.Timestamp",
    "duration": "google.protobuf.Duration",
    "null": "null_type",
}


def _type_value(named: Type) -> values.TypeValue:
    name = named.name or named.kind
    return values.TypeValue(_TYPE_NAMES.get(name, name))


def _reads(node: Node, name: str) -> bool:
    return isinstance(node, Ident) and node.name == name


def _append(slot: int, condition: Step | None, step: Step) -> Step:
    def grow(frame: Frame) -> Any:
        items = frame.slots[slot]
        if isinstance(items, EvaluationError):
            raise items
        if condition is not None and not _is_true(condition(frame)):
            frame.cost += 1
            return items
        value = step(frame)
        frame.pay(LIST_COST + 2)
        items.append(value)
        return items

    return grow


def _insert(slot: int, condition: Step | None, steps: list[Step]) -> Step:
    def grow(frame: Frame) -> Any:
        items = frame.slots[slot]
        if isinstance(items, EvaluationError):
            raise items
        if condition is not None and not _is_true(condition(frame)):
            frame.cost += 1
            return items
        found = [step(frame) for step in steps]
        frame.pay(2)
        if len(found) == 1 and not values.is_map(found[0]):
            raise no_overload()
        added = [(values.to_key(found[0]), found[1])] if len(found) == 2 else list(found[0].items())
        for key, value in added:
            if key in items:
                raise EvaluationError(f"insert failed: key {values.from_key(key)} already exists")
            items[key] = value
        return items

    return grow


def _is_true(answer: Any) -> bool:
    if type(answer) is not bool:
        raise no_overload()
    return answer


def _pairs(items: Any) -> Any:
    if values.is_list(items):
        return enumerate(items)
    if values.is_map(items):
        return ((values.from_key(k), v) for k, v in items.items())
    raise values.not_iterable(items)


def _singles(items: Any) -> Any:
    if values.is_list(items):
        return ((item, None) for item in items)
    if values.is_map(items):
        return ((values.from_key(key), None) for key in items)
    raise values.not_iterable(items)


def _hashable(key: Any) -> Any:
    """Anything may be a key of a literal, but nothing else than scalars is found again."""
    try:
        hash(key)
    except TypeError:
        raise EvaluationError(f"unsupported key type: {values.type_name(key)}") from None
    return key


def _is_constant(node: Node) -> bool:
    if isinstance(node, Literal):
        return True
    return isinstance(node, ListLiteral) and bool(node.elements) and all(_is_constant(e) for e in node.elements)


def _constant_value(node: Node) -> Any:
    return node.value if isinstance(node, Literal) else [_constant_value(e) for e in node.elements]  # type: ignore[attr-defined]


def _constant(value: Any) -> Step:
    return lambda _frame: value


def _local(slot: int) -> Step:
    def read(frame: Frame) -> Any:
        frame.cost += 1
        value = frame.slots[slot]
        if isinstance(value, EvaluationError):
            raise value
        return value

    return read


def _variable(name: str) -> Step:
    def read(frame: Frame) -> Any:
        frame.cost += 1
        try:
            return frame.bindings[name]
        except KeyError:
            raise EvaluationError(f"no such attribute(s): {name}") from None

    return read


# -- fields ----------------------------------------------------------------------------------------------------------


def get_field(value: Any, name: str) -> Any:
    if isinstance(value, ObjectBase | values.Struct):
        return value.field(name)
    if isinstance(value, Mapping):
        found, inner = values.look_up(value, name)
        if not found:
            raise EvaluationError(f"no such key: {name}")
        return inner
    if type(value) is Optional:
        return optional_field(value, name)
    if values.is_list(value):
        raise EvaluationError("unsupported index type 'string' in list")
    raise EvaluationError(f"no such key: {name}")


def has_field(value: Any, name: str) -> bool:
    if isinstance(value, ObjectBase | values.Struct):
        return value.has(name)
    if isinstance(value, Mapping):
        return name in value
    if type(value) is Optional:
        return value.present and has_field(value.value, name)
    raise no_overload()


def optional_field(value: Any, name: str) -> Optional:
    if type(value) is Optional:
        if not value.present:
            return ABSENT
        value = value.value
    if not has_field(value, name):
        return ABSENT
    return Optional(get_field(value, name))


# -- calls -----------------------------------------------------------------------------------------------------------


def _call_one(implementation: Implementation, step: Step) -> Step:
    table = implementation.by_types

    def call(frame: Frame) -> Any:
        a = step(frame)
        function, cost = table.get((type(a),)) or implementation.resolve((type(a),))
        frame.pay(1 if cost is None else cost(a))
        return function(a)

    return call


def _call_two(implementation: Implementation, left: Step, right: Step) -> Step:
    table = implementation.by_types

    def call(frame: Frame) -> Any:
        a = left(frame)
        b = right(frame)
        key = (type(a), type(b))
        function, cost = table.get(key) or implementation.resolve(key)
        # Paid before it is done: what is too dear is not begun.
        frame.pay(1 if cost is None else cost(a, b))
        return function(a, b)

    return call


def _call_many(implementation: Implementation, steps: list[Step]) -> Step:
    table = implementation.by_types

    def call(frame: Frame) -> Any:
        args = [step(frame) for step in steps]
        key = tuple(map(type, args))
        function, cost = table.get(key) or implementation.resolve(key)
        frame.pay(1 if cost is None else cost(*args))
        return function(*args)

    return call


def _and(left: Step, right: Step) -> Step:
    def both(frame: Frame) -> Any:
        try:
            a = left(frame)
        except EvaluationError:
            if right(frame) is False:
                return False
            raise
        if a is False:
            return False
        b = right(frame)
        if b is False or (b is True and a is True):
            return b
        raise no_overload()

    return both


def _or(left: Step, right: Step) -> Step:
    def either(frame: Frame) -> Any:
        try:
            a = left(frame)
        except EvaluationError:
            if right(frame) is True:
                return True
            raise
        if a is True:
            return True
        b = right(frame)
        if b is True or (b is False and a is False):
            return b
        raise no_overload()

    return either


def _choose(condition: Step, yes: Step, no: Step) -> Step:
    def choose(frame: Frame) -> Any:
        answer = condition(frame)
        if answer is True:
            return yes(frame)
        if answer is False:
            return no(frame)
        raise no_overload()

    return choose


def _not_strictly_false(step: Step) -> Step:
    def judge(frame: Frame) -> Any:
        frame.pay(1)
        try:
            return step(frame) is not False
        except EvaluationError:
            return True

    return judge


def _or_value(left: Step, right: Step) -> Step:
    def value(frame: Frame) -> Any:
        frame.pay(1)
        found = left(frame)
        if type(found) is not Optional:
            raise no_overload()
        return found.value if found.present else right(frame)

    return value


def _or_optional(left: Step, right: Step) -> Step:
    def value(frame: Frame) -> Any:
        frame.pay(1)
        found = left(frame)
        if type(found) is not Optional:
            raise no_overload()
        return found if found.present else right(frame)

    return value


_SPECIAL: Final[dict[str, Callable[..., Step]]] = {
    "_&&_": _and,
    "_||_": _or,
    "_?_:_": _choose,
    "@not_strictly_false": _not_strictly_false,
    "orValue": _or_value,
    "or": _or_optional,
}

__all__ = ["LISTS", "Builder", "Frame", "Step"]
