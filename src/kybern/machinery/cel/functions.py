"""Which Python function a call means: chosen by the types of the values, remembered for each mix of them.

Filled by the libraries, read by evaluate.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from kybern.machinery.cel.errors import EvaluationError, no_overload
from kybern.machinery.cel.values import ListBase

# Types that stand for whole families of values.
LIST: Final = (list, tuple, ListBase)
MAP: Final = (Mapping,)
ANY: Final = (object,)

TypeSet = type | tuple[type, ...]
Cost = Callable[..., int]


Chosen = tuple[Callable[..., Any], Cost | None]


@dataclass(slots=True)
class Implementation:
    """One function with one number of arguments. A cost gets the arguments; without one a call costs 1."""

    name: str
    choices: list[tuple[tuple[tuple[type, ...], ...], Chosen]] = field(default_factory=list)
    by_types: dict[tuple[type, ...], Chosen] = field(default_factory=dict)

    def resolve(self, key: tuple[type, ...]) -> Chosen:
        """Raises EvaluationError where nothing fits."""
        for wanted, chosen in self.choices:
            if all(_is_of(k, w) for k, w in zip(key, wanted, strict=True)):
                self.by_types[key] = chosen
                return chosen
        raise no_overload() if self.name[0] in "_!-@" else EvaluationError(f"no such overload: {self.name}")


def _is_of(given: type, wanted: Sequence[type]) -> bool:
    if given in wanted:
        return True
    # Scalars are told apart exactly (a bool is no int), families by their base.
    return any(w in _FAMILIES and issubclass(given, w) for w in wanted)


_FAMILIES: Final = frozenset({ListBase, Mapping, object})

Table = dict[tuple[str, int], Implementation]


class Library:
    """What a library brings: signatures for the checker, functions for the evaluation."""

    def __init__(self, signatures: str) -> None:
        self.signatures = signatures
        self.table: Table = {}

    def add(
        self, name: str, *args: TypeSet, cost: Cost | None = None
    ) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """Decorator: this implements `name` for these types (the receiver first)."""
        wanted = tuple(a if isinstance(a, tuple) else (a,) for a in args)

        def register(function: Callable[..., Any]) -> Callable[..., Any]:
            implementation = self.table.setdefault((name, len(wanted)), Implementation(name))
            implementation.choices.append((wanted, (function, cost)))
            return function

        return register


def merge(libraries: Sequence[Library]) -> Table:
    """All functions of several libraries."""
    table: Table = {}
    for library in libraries:
        for key, implementation in library.table.items():
            table.setdefault(key, Implementation(key[0])).choices.extend(implementation.choices)
    return table


def size(value: Any) -> int:
    """How big a value is for costs: characters, bytes, elements; 1 for scalars."""
    try:
        return len(value)
    except TypeError:
        return 1


def traversal(value: Any) -> int:
    """A look at every character."""
    return math.ceil(size(value) * 0.1)


_HEAVIEST: Final = 50_000_000


def weight(value: Any) -> int:
    """How many values a value is made of: what a look at all of it takes. Texts count for their length / 100.

    Upstream's costs look at the uppermost level only; a comparison of deep values in a loop would be all but free.
    """
    count = 1
    left: list[Any] = [value]
    while left and count < _HEAVIEST:
        one = left.pop()
        if isinstance(one, str | bytes):
            count += len(one) // 100
            continue
        one = getattr(one, "json", one)
        if isinstance(one, Mapping):
            one = one.values()
        elif not isinstance(one, LIST):
            continue
        count += len(one)
        left.extend(inner for inner in one if type(inner) not in _LIGHT)
    return count


_LIGHT: Final = frozenset({int, float, bool, type(None)})


def is_deep(value: Any) -> bool:
    return isinstance(value, list | tuple | Mapping | ListBase)
