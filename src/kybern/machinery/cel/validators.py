"""What a well-typed program must keep besides: literals of one type, constants that can be parsed, formats that fit.

Called by program after checker. Source: cel-go's documentation of AST validators; the answers of an API server.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from kybern.machinery.cel import functions, types
from kybern.machinery.cel.ast import (
    Call,
    Comprehension,
    ListLiteral,
    Literal,
    MapLiteral,
    Node,
    Select,
    StructLiteral,
)
from kybern.machinery.cel.errors import CelError, EvaluationError, InstantiationError, Issue
from kybern.machinery.cel.library import patterns, string_format, times
from kybern.machinery.cel.types import Type
from kybern.pausing import pause

# Calls with constants only that are computed once, when the program is made.
_FOLDED: Final = frozenset({"int", "uint", "double", "bool", "string", "bytes", "matches", "find", "findAll"})


def validate(text: str, root: Node, table: functions.Table) -> None:
    """Raises CelError."""
    issues: list[Issue] = []
    folded: list[Call] = []
    for node, formatting in _walk(root, False):
        match node:
            case ListLiteral() if not formatting:
                _one_type(_list_types(node), issues)
            case MapLiteral() if not formatting:
                _one_type([(e.key, e.key.type) for e in node.entries], issues)
                _one_type([(e.value, _unwrapped(e.value.type, e.optional)) for e in node.entries], issues)
            case Call():
                _check_call(node, issues)
                if node.function in _FOLDED and all(isinstance(part, Literal) for part in node.operands):
                    folded.append(node)
    if issues:
        raise CelError(text, sorted(issues, key=lambda i: i.offset))
    for call in folded:
        _fold(call, table)


def _fold(call: Call, table: functions.Table) -> None:
    args: list[Any] = [part.value for part in call.operands if isinstance(part, Literal)]
    implementation = table.get((call.function, len(args)))
    if implementation is None:
        return
    try:
        implementation.resolve(tuple(map(type, args)))[0](*args)
    except EvaluationError as error:
        raise InstantiationError(str(error)) from None


def _walk(node: Node, formatting: bool) -> Iterator[tuple[Node, bool]]:
    """Every node, and whether it is somewhere in what is formatted."""
    pause()
    yield node, formatting
    match node:
        case Select():
            yield from _walk(node.operand, formatting)
        case Call():
            inner = formatting or node.function == "format"
            for part in node.operands:
                yield from _walk(part, inner)
        case ListLiteral():
            for part in node.elements:
                yield from _walk(part, formatting)
        case MapLiteral():
            for entry in node.entries:
                yield from _walk(entry.key, formatting)
                yield from _walk(entry.value, formatting)
        case StructLiteral():
            for field in node.fields:
                yield from _walk(field.value, formatting)
        case Comprehension():
            for part in (node.range, node.initial, node.condition, node.step, node.result):
                yield from _walk(part, formatting)


def _unwrapped(t: Type, optional: bool) -> Type:
    return t.params[0] if optional and types.is_optional(t) else t


def _list_types(node: ListLiteral) -> list[tuple[Node, Type]]:
    return [(e, _unwrapped(e.type, i in node.optional)) for i, e in enumerate(node.elements)]


def _one_type(members: Sequence[tuple[Node, Type]], issues: list[Issue]) -> None:
    if not members:
        return
    wanted = members[0][1]
    for node, found in members[1:]:
        if found != wanted:
            issues.append(Issue(node.offset, f"expected type '{wanted}' but found '{found}'"))
            return


def _check_call(node: Call, issues: list[Issue]) -> None:
    parse = _PARSED.get(node.function)
    if parse is not None and len(node.operands) == (2 if node.function == "matches" else 1):
        argument = node.args[-1]
        # Only the method form of `matches` is looked at, as upstream does.
        if (
            isinstance(argument, Literal)
            and type(argument.value) is str
            and (node.target or node.function != "matches")
        ):
            try:
                parse(argument.value)
            except (ValueError, EvaluationError):
                issues.append(Issue(argument.offset, f"invalid {node.function} argument"))
    elif node.function == "format" and isinstance(node.target, Literal) and isinstance(node.args[0], ListLiteral):
        _check_format(node, node.target.value, node.args[0], issues)


_PARSED: Final[dict[str, Any]] = {
    "matches": patterns.compiled,
    "duration": times.parse_duration,
    "timestamp": times.parse_timestamp,
}


def _check_format(node: Call, pattern: str, args: ListLiteral, issues: list[Issue]) -> None:
    try:
        verbs = string_format.verbs_of(pattern)
    except EvaluationError as error:
        issues.append(Issue(node.offset if args.elements else args.offset, str(error)))
        return
    for index, verb in enumerate(verbs):
        if index >= len(args.elements):
            issues.append(Issue(node.offset, f"index {index} out of range"))
            return
        argument = args.elements[index]
        if not _may_format(verb, argument.type):
            issues.append(Issue(argument.offset, string_format.refusal(verb, _shown(argument.type))))
            return
    if len(verbs) < len(args.elements):
        issues.append(
            Issue(
                node.offset,
                f"too many arguments supplied to string.format (expected {len(verbs)}, got {len(args.elements)})",
            )
        )


_ALLOWED: Final = {
    "s": frozenset(
        {"string", "bool", "bytes", "int", "uint", "double", "map", "list", "type", "timestamp", "duration", "null"}
    ),
    "d": frozenset({"int", "uint"}),
    "f": frozenset({"double", "string"}),
    "e": frozenset({"double", "string"}),
    "b": frozenset({"int", "uint", "bool"}),
    "x": frozenset({"int", "uint", "bytes", "string"}),
    "X": frozenset({"int", "uint", "bytes", "string"}),
    "o": frozenset({"int", "uint"}),
}


def _may_format(verb: str, t: Type) -> bool:
    return types.is_dyn(t) or t.kind in _ALLOWED[verb]


def _shown(t: Type) -> str:
    return t.name or t.kind
