"""Strings: cel-go's extension in the version that Kubernetes takes (2), `format` in string_format, and `find`.

Source: cel-go's documentation of ext.Strings; "Kubernetes regex library" in the documentation.
"""

from __future__ import annotations

import math
from typing import Any

from kybern.machinery.cel import values
from kybern.machinery.cel.errors import EvaluationError
from kybern.machinery.cel.functions import LIST, Library, size, traversal, weight
from kybern.machinery.cel.library import patterns, string_format

LIBRARY = Library(
    """
    string -> charAt(int): string
    string -> indexOf(string): int
    string -> indexOf(string, int): int
    string -> lastIndexOf(string): int
    string -> lastIndexOf(string, int): int
    string -> lowerAscii(): string
    string -> upperAscii(): string
    string -> replace(string, string): string
    string -> replace(string, string, int): string
    string -> split(string): list(string)
    string -> split(string, int): list(string)
    string -> substring(int): string
    string -> substring(int, int): string
    string -> trim(): string
    list(string) -> join(): string
    list(string) -> join(string): string
    string -> format(list(dyn)): string
    strings.quote(string): string
    string -> find(string): string
    string -> findAll(string): list(string)
    string -> findAll(string, int): list(string)
    """
)
_add = LIBRARY.add
# Unicode's White_Space, as Go trims it.
_SPACE = "\t\n\v\f\r \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(map(chr, range(0x2000, 0x200B)))
_LOWER = {c: c + 32 for c in range(ord("A"), ord("Z") + 1)}
_UPPER = {c: c - 32 for c in range(ord("a"), ord("z") + 1)}


def _both(a: Any, b: Any) -> int:
    return traversal(a) * max(1, traversal(b))  # also where b is empty: split("") makes as many parts


def _one(a: Any, *_: Any) -> int:
    return traversal(a)


@_add("charAt", str, int)
def _char_at(a: str, at: int) -> str:
    if not 0 <= at <= len(a):
        raise EvaluationError(f"index out of range: {at}")
    return a[at : at + 1]


@_add("indexOf", str, str, cost=_both)
def _index_of(a: str, b: str) -> int:
    return a.find(b)


@_add("indexOf", str, str, int, cost=lambda a, b, _: _both(a, b))
def _index_of_from(a: str, b: str, start: int) -> int:
    if not b:
        return start
    if start < 0:
        raise EvaluationError(f"index out of range: {start}")
    return a.find(b, start) if start < len(a) else -1


@_add("lastIndexOf", str, str, cost=_both)
def _last_index_of(a: str, b: str) -> int:
    return a.rfind(b)


@_add("lastIndexOf", str, str, int, cost=lambda a, b, _: _both(a, b))
def _last_index_of_from(a: str, b: str, start: int) -> int:
    if not b:
        return start
    if start < 0:
        raise EvaluationError(f"index out of range: {start}")
    return a.rfind(b, 0, start + len(b)) if start < len(a) else -1


@_add("lowerAscii", str, cost=_one)
def _lower(a: str) -> str:
    return a.translate(_LOWER)


@_add("upperAscii", str, cost=_one)
def _upper(a: str) -> str:
    return a.translate(_UPPER)


def _replace_cost(a: str, old: str, new: str, _count: int = -1) -> int:
    # What comes out may be far longer than what goes in: that is paid before it is made.
    grown = (len(a) // max(1, len(old)) + 1) * len(new)
    return max(_both(a, old), math.ceil((len(a) + grown) * 0.1) if grown > 10_000 else 1)


@_add("replace", str, str, str, cost=_replace_cost)
def _replace(a: str, old: str, new: str) -> str:
    return a.replace(old, new)


@_add("replace", str, str, str, int, cost=_replace_cost)
def _replace_some(a: str, old: str, new: str, count: int) -> str:
    return a.replace(old, new, count) if count >= 0 else a.replace(old, new)


@_add("split", str, str, cost=_both)
def _split(a: str, mark: str) -> list[str]:
    return a.split(mark) if mark else list(a)


@_add("split", str, str, int, cost=lambda a, b, _: _both(a, b))
def _split_some(a: str, mark: str, count: int) -> list[str]:
    if count == 0:
        return []
    if count < 0:
        return _split(a, mark)  # type: ignore[no-any-return]
    if mark:
        return a.split(mark, count - 1)
    return [*a[: count - 1], *([a[count - 1 :]] if len(a) >= count else [])]


@_add("substring", str, int, cost=_one)
def _from(a: str, start: int) -> str:
    if not 0 <= start <= len(a):
        raise EvaluationError(f"index out of range: {start}")
    return a[start:]


@_add("substring", str, int, int, cost=_one)
def _between(a: str, start: int, end: int) -> str:
    if start > end:
        raise EvaluationError(f"invalid substring range. start: {start}, end: {end}")
    if not 0 <= start <= len(a):
        raise EvaluationError(f"index out of range: {start}")
    if not 0 <= end <= len(a):
        raise EvaluationError(f"index out of range: {end}")
    return a[start:end]


@_add("trim", str, cost=_one)
def _trim(a: str) -> str:
    return a.strip(_SPACE)


def _join_cost(items: Any, mark: str = "") -> int:
    total = sum(size(item) for item in items) + len(mark) * len(items)
    return max(1, math.ceil(total * 0.1))


@_add("join", LIST, cost=_join_cost)
def _join(items: Any) -> str:
    return _join_with(items, "")  # type: ignore[no-any-return]


@_add("join", LIST, str, cost=_join_cost)
def _join_with(items: Any, mark: str) -> str:
    for item in items:
        if type(item) is not str:
            raise EvaluationError(f"join: invalid input: {values.type_name(item)}")
    return mark.join(items)


def _format_cost(a: str, args: Any) -> int:
    heavy = weight(args)
    return traversal(a) + (heavy if heavy > 100 else 0)


@_add("format", str, LIST, cost=_format_cost)
def _format(a: str, args: Any) -> str:
    return string_format.formatted(a, args)


_QUOTES = {
    "\a": "\\a",
    "\b": "\\b",
    "\f": "\\f",
    "\n": "\\n",
    "\r": "\\r",
    "\t": "\\t",
    "\v": "\\v",
    "\\": "\\\\",
    '"': '\\"',
}


@_add("strings.quote", str, cost=_one)
def _quote(a: str) -> str:
    return '"' + "".join(_QUOTES.get(c, c) for c in a) + '"'


# -- regular expressions ----------------------------------------------------------------------------------------------


def _pattern_cost(a: str, pattern: str, _count: int = 0) -> int:
    return math.ceil((len(a) + 1) * 0.1) * math.ceil(len(pattern) * 0.25)


@_add("find", str, str, cost=_pattern_cost)
def _find(a: str, pattern: str) -> str:
    match = patterns.compiled(pattern).search(a)
    return match.group() if match is not None else ""


@_add("findAll", str, str, cost=_pattern_cost)
def _find_all(a: str, pattern: str) -> list[str]:
    return _find_some(a, pattern, -1)  # type: ignore[no-any-return]


@_add("findAll", str, str, int, cost=_pattern_cost)
def _find_some(a: str, pattern: str, count: int) -> list[str]:
    found: list[str] = []
    for match in patterns.compiled(pattern).finditer(a):
        if 0 <= count <= len(found):
            break
        found.append(match.group())
    return found
