"""Lists and sets: `isSorted`, `sum`, `min`, `max`, `indexOf`, `sets.contains` and so on, and the maps that macros make.

Source: "Kubernetes list library" in the documentation; cel-go's sets extension.
"""

from __future__ import annotations

import functools
from typing import Any, Final

from kybern.machinery.cel import values
from kybern.machinery.cel.errors import EvaluationError, no_overload
from kybern.machinery.cel.functions import ANY, LIST, MAP, Library, size, weight
from kybern.machinery.cel.values import Duration, Uint

_DEEPEST: Final = 100  # lists are not nested deeper
_SUMMED: Final = ("int", "uint", "double", "google.protobuf.Duration")
_ORDERED: Final = (*_SUMMED, "bool", "google.protobuf.Timestamp", "string", "bytes")

LIBRARY = Library(
    "\n".join(f"list({t}) -> isSorted(): bool\nlist({t}) -> min(): {t}\nlist({t}) -> max(): {t}" for t in _ORDERED)
    + "\n"
    + "\n".join(f"list({t}) -> sum(): {t}" for t in _SUMMED)
    + """
    list(A) -> indexOf(A): int
    list(A) -> lastIndexOf(A): int
    sets.contains(list(A), list(A)): bool
    sets.equivalent(list(A), list(A)): bool
    sets.intersects(list(A), list(A)): bool
    list(A) -> distinct(): list(A)
    list(A) -> reverse(): list(A)
    list(A) -> slice(int, int): list(A)
    list(A) -> sort(): list(A)
    list(A) -> @sortByAssociatedKeys(list(B)): list(A)
    list(A) -> first(): optional_type(A)
    list(A) -> last(): optional_type(A)
    list(list(A)) -> flatten(): list(A)
    list(dyn) -> flatten(): list(dyn)
    list(dyn) -> flatten(int): list(dyn)
    lists.range(int): list(int)
    cel.@mapInsert(map(A, B), A, B): map(A, B)
    cel.@mapInsert(map(A, B), map(A, B)): map(A, B)
    """
)
_add = LIBRARY.add


def _each(items: Any, *_: Any) -> int:
    return max(1, size(items), weight(items) // 2)


@_add("isSorted", LIST, cost=_each)
def _is_sorted(items: Any) -> bool:
    return all(values.compare(items[i], items[i + 1]) <= 0 for i in range(len(items) - 1))


@_add("sum", LIST, cost=_each)
def _sum(items: Any) -> Any:
    total: Any = None
    for item in items:
        kind = type(item)
        if kind not in (int, Uint, float, Duration) or (total is not None and type(total) is not kind):
            raise no_overload()
        total = item if total is None else _plus(total, item)
    return 0 if total is None else total


def _plus(a: Any, b: Any) -> Any:
    if type(a) is int:
        return values.checked_int(a + b)
    if type(a) is Uint:
        return values.checked_uint(int(a) + int(b))
    if type(a) is Duration:
        return values.checked_duration(int(a) + int(b))
    return a + b


@_add("min", LIST, cost=_each)
def _min(items: Any) -> Any:
    return _best(items, "min", -1)


@_add("max", LIST, cost=_each)
def _max(items: Any) -> Any:
    return _best(items, "max", 1)


def _best(items: Any, name: str, wanted: int) -> Any:
    if not len(items):
        raise EvaluationError(f"{name} called on empty list")
    found = items[0]
    for item in items:
        if values.compare(item, found) == wanted:
            found = item
    return found


@_add("indexOf", LIST, ANY, cost=_each)
def _index_of(items: Any, wanted: Any) -> int:
    return next((i for i, item in enumerate(items) if values.equals(item, wanted)), -1)


@_add("lastIndexOf", LIST, ANY, cost=_each)
def _last_index_of(items: Any, wanted: Any) -> int:
    return next((i for i in range(len(items) - 1, -1, -1) if values.equals(items[i], wanted)), -1)


@_add("distinct", LIST, cost=lambda items: _pairs(items, items))
def _distinct(items: Any) -> list[Any]:
    found: list[Any] = []
    seen: set[Any] = set()
    for item in items:
        if type(item) in (str, int):
            if item not in seen:
                seen.add(item)
                found.append(item)
        elif not any(values.equals(item, known) for known in found):
            found.append(item)
    return found


@_add("reverse", LIST, cost=_each)
def _reverse(items: Any) -> list[Any]:
    return list(items)[::-1]


@_add("slice", LIST, int, int, cost=_each)
def _slice(items: Any, start: int, end: int) -> list[Any]:
    if start < 0 or end < 0:
        raise EvaluationError(f"cannot slice({start}, {end}), negative indexes not supported")
    if start > end:
        raise EvaluationError(f"cannot slice({start}, {end}), start index must be less than or equal to end index")
    if end > len(items):
        raise EvaluationError(f"cannot slice({start}, {end}), list is length {len(items)}")
    return list(items)[start:end]


def _sort_cost(items: Any, *_: Any) -> int:
    return _each(items) * max(1, size(items).bit_length())


@_add("sort", LIST, cost=_sort_cost)
def _sort(items: Any) -> list[Any]:
    return sorted(items, key=functools.cmp_to_key(values.compare))


@_add("@sortByAssociatedKeys", LIST, LIST, cost=_sort_cost)
def _sort_by(items: Any, keys: Any) -> list[Any]:
    order = sorted(range(len(items)), key=functools.cmp_to_key(lambda i, j: values.compare(keys[i], keys[j])))
    return [items[i] for i in order]


@_add("first", LIST)
def _first(items: Any) -> values.Optional:
    return values.Optional(items[0]) if len(items) else values.ABSENT


@_add("last", LIST)
def _last(items: Any) -> values.Optional:
    return values.Optional(items[len(items) - 1]) if len(items) else values.ABSENT


@_add("flatten", LIST, cost=_each)
def _flatten(items: Any) -> list[Any]:
    return _flatten_to(items, 1)  # type: ignore[no-any-return]


@_add("flatten", LIST, int, cost=_each)
def _flatten_to(items: Any, depth: int) -> list[Any]:
    if depth < 0:
        raise EvaluationError("level must be non-negative")
    found = list(items)
    for _ in range(min(depth, _DEEPEST)):
        if not any(values.is_list(item) for item in found):
            break
        found = [part for item in found for part in (item if values.is_list(item) else (item,))]
    return found


@_add("lists.range", int, cost=lambda count: max(1, count))
def _range(count: int) -> list[int]:
    return list(range(count))


# -- sets ------------------------------------------------------------------------------------------------------------


def _pairs(a: Any, b: Any) -> int:
    return max(1, size(a) * size(b), (size(a) * weight(b) + size(b) * weight(a)) // 2)


def _has_all(a: Any, b: Any) -> bool:
    return all(any(values.equals(x, y) for x in a) for y in b)


@_add("sets.contains", LIST, LIST, cost=_pairs)
def _contains(a: Any, b: Any) -> bool:
    return _has_all(a, b)


@_add("sets.equivalent", LIST, LIST, cost=lambda a, b: 2 * _pairs(a, b))
def _equivalent(a: Any, b: Any) -> bool:
    return _has_all(a, b) and _has_all(b, a)


@_add("sets.intersects", LIST, LIST, cost=_pairs)
def _intersects(a: Any, b: Any) -> bool:
    return any(values.equals(x, y) for x in a for y in b)


# -- what transformMap becomes (evaluate does it in place where it can) -----------------------------------------------


@_add("cel.@mapInsert", MAP, ANY, ANY)
def _insert(items: Any, key: Any, value: Any) -> Any:
    key = values.to_key(key)
    if key in items:
        raise EvaluationError(f"insert failed: key {values.from_key(key)} already exists")
    return {**items, key: value}


@_add("cel.@mapInsert", MAP, MAP)
def _insert_all(items: Any, more: Any) -> Any:
    for key, value in more.items():
        items = _insert(items, values.from_key(key), value)
    return items
