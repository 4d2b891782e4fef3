"""What functions take and give, written as signatures. Read by checker; the libraries declare theirs beside their code.

`list(A).indexOf(A): int` is a method, `size(string): int` a function; single capital letters are type parameters.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from kybern.machinery.cel import types
from kybern.machinery.cel.types import Type


@dataclass(frozen=True, slots=True)
class Overload:
    """One way to call a function; `args` begin with the receiver if it is a method."""

    function: str
    is_method: bool
    args: tuple[Type, ...]
    result: Type

    @property
    def id(self) -> str:
        return f"{self.function}({','.join(map(str, self.args))})"


Functions = dict[str, tuple[Overload, ...]]

_WORD: Final = re.compile(r"[a-zA-Z_.][a-zA-Z0-9_.]*")


def parse(signatures: str) -> list[Overload]:
    """One signature a line."""
    return [_overload(line.strip()) for line in signatures.strip().splitlines() if line.strip()]


def merge(*groups: Iterable[Overload]) -> Functions:
    found: dict[str, list[Overload]] = {}
    for group in groups:
        for overload in group:
            found.setdefault(overload.function, []).append(overload)
    return {name: tuple(overloads) for name, overloads in found.items()}


def parse_type(text: str) -> Type:
    found, rest = _type(text.strip())
    assert not rest, text
    return found


def _overload(line: str) -> Overload:
    head, _, result = line.rpartition("):")
    receiver: list[Type] = []
    if line[0] not in "!-_@":
        # A method begins with the type of its receiver; a function's own name may have dots: `sets.contains(...)`.
        before = _receiver(head)
        if before is not None:
            found, head = before
            receiver = [found]
    name, _, arguments = head.partition("(")
    args = [*receiver, *_arguments(arguments)]
    return Overload(name.strip(), bool(receiver), tuple(args), parse_type(result))


def _receiver(head: str) -> tuple[Type, str] | None:
    marker = head.find("->")
    if marker < 0:
        return None
    return parse_type(head[:marker]), head[marker + 2 :].strip()


def _arguments(text: str) -> list[Type]:
    found: list[Type] = []
    rest = text.strip()
    while rest:
        one, rest = _type(rest)
        found.append(one)
        rest = rest.lstrip(", ")
    return found


def _type(text: str) -> tuple[Type, str]:
    match = _WORD.match(text)
    assert match is not None, text
    name, rest = match.group(), text[match.end() :]
    params: list[Type] = []
    if rest.startswith("("):
        rest = rest[1:]
        while not rest.startswith(")"):
            one, rest = _type(rest.lstrip(", "))
            params.append(one)
        rest = rest[1:]
    return _named(name, tuple(params)), rest


def _named(name: str, params: tuple[Type, ...]) -> Type:
    if len(name) == 1 and name.isupper():
        return types.param(name)
    if name in ("list", "map", "type") and params:
        return Type(name, "", params)
    if name in types.SCALARS and not params:
        return types.SCALARS[name]
    return types.opaque(name, *params)
