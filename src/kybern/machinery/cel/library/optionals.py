"""Values that may be absent: `optional.of` and friends. `or` and `orValue` are in evaluate: they are lazy."""

from __future__ import annotations

from typing import Any

from kybern.machinery.cel import values
from kybern.machinery.cel.errors import EvaluationError
from kybern.machinery.cel.functions import ANY, LIST, Library
from kybern.machinery.cel.values import ABSENT, Optional

LIBRARY = Library(
    """
    optional.of(A): optional_type(A)
    optional.ofNonZeroValue(A): optional_type(A)
    optional.none(): optional_type(A)
    optional.unwrap(list(optional_type(A))): list(A)
    list(optional_type(A)) -> unwrapOpt(): list(A)
    optional_type(A) -> value(): A
    optional_type(A) -> hasValue(): bool
    optional_type(A) -> or(optional_type(A)): optional_type(A)
    optional_type(A) -> orValue(A): A
    """
)
_add = LIBRARY.add


@_add("optional.of", ANY)
def _of(a: Any) -> Optional:
    return Optional(a)


@_add("optional.ofNonZeroValue", ANY)
def _of_non_zero(a: Any) -> Optional:
    return ABSENT if _is_zero(a) else Optional(a)


def _is_zero(a: Any) -> bool:
    if a is None or isinstance(a, values.Opaque):
        return a is None
    if values.is_list(a) or values.is_map(a) or isinstance(a, str | bytes):
        return len(a) == 0
    if isinstance(a, values.Timestamp):
        return int(a) == values.MIN_SECONDS * values.SECOND
    return not a if isinstance(a, int | float) else False


@_add("optional.none")
def _none() -> Optional:
    return ABSENT


@_add("optional.unwrap", LIST)
@_add("unwrapOpt", LIST)
def _unwrap(items: Any) -> list[Any]:
    return [item.value for item in items if type(item) is Optional and item.present]


@_add("value", Optional)
def _value(a: Optional) -> Any:
    if not a.present:
        raise EvaluationError("optional.none() dereference")
    return a.value


@_add("hasValue", Optional)
def _has_value(a: Optional) -> bool:
    return a.present
