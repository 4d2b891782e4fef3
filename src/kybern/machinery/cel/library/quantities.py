"""Resource amounts. Source: "Kubernetes quantity library" in the documentation."""

from __future__ import annotations

import re
from typing import Any

from kybern.api import scalars
from kybern.machinery.cel import values
from kybern.machinery.cel.errors import EvaluationError
from kybern.machinery.cel.functions import Library, traversal
from kybern.machinery.cel.values import Opaque

LIBRARY = Library(
    """
    quantity(string): kubernetes.Quantity
    isQuantity(string): bool
    sign(kubernetes.Quantity): int
    kubernetes.Quantity -> isInteger(): bool
    kubernetes.Quantity -> asInteger(): int
    kubernetes.Quantity -> asApproximateFloat(): double
    kubernetes.Quantity -> isGreaterThan(kubernetes.Quantity): bool
    kubernetes.Quantity -> isLessThan(kubernetes.Quantity): bool
    kubernetes.Quantity -> compareTo(kubernetes.Quantity): int
    kubernetes.Quantity -> add(kubernetes.Quantity): kubernetes.Quantity
    kubernetes.Quantity -> add(int): kubernetes.Quantity
    kubernetes.Quantity -> sub(kubernetes.Quantity): kubernetes.Quantity
    kubernetes.Quantity -> sub(int): kubernetes.Quantity
    """
)
_add = LIBRARY.add
_UNIT = 10**9
_INEXACT = re.compile(r"[+-]?(?:[0-9]*\.[0-9]*[KMGTPE]i\Z|0*[1-9][0-9]{18})")


class Quantity(Opaque):
    """An amount in nano-units."""

    __slots__ = ("is_exact", "nano")
    cel_type = "kubernetes.Quantity"

    def __init__(self, nano: int, is_exact: bool = True) -> None:
        self.nano = nano
        self.is_exact = is_exact  # kept as an integer and a power of ten, as upstream keeps short ones

    def equals(self, other: Any) -> bool:
        return bool(self.nano == other.nano)


@_add("quantity", str, cost=traversal)
def _quantity(text: str) -> Quantity:
    try:
        return Quantity(scalars.parse_quantity(text)[0], _INEXACT.match(text) is None)
    except ValueError:
        raise EvaluationError(
            "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
        ) from None


@_add("isQuantity", str, cost=traversal)
def _is_quantity(text: str) -> bool:
    try:
        scalars.parse_quantity(text)
    except ValueError:
        return False
    return True


@_add("sign", Quantity)
def _sign(a: Quantity) -> int:
    return (a.nano > 0) - (a.nano < 0)


@_add("isInteger", Quantity)
def _is_integer(a: Quantity) -> bool:
    return a.is_exact and a.nano % _UNIT == 0 and values.MIN_INT <= a.nano // _UNIT <= values.MAX_INT


@_add("asInteger", Quantity)
def _as_integer(a: Quantity) -> int:
    if not _is_integer(a):
        raise EvaluationError("cannot convert value to integer")
    return a.nano // _UNIT


@_add("asApproximateFloat", Quantity)
def _as_float(a: Quantity) -> float:
    return a.nano / _UNIT


@_add("isGreaterThan", Quantity, Quantity)
def _is_greater(a: Quantity, b: Quantity) -> bool:
    return a.nano > b.nano


@_add("isLessThan", Quantity, Quantity)
def _is_less(a: Quantity, b: Quantity) -> bool:
    return a.nano < b.nano


@_add("compareTo", Quantity, Quantity)
def _compare(a: Quantity, b: Quantity) -> int:
    return (a.nano > b.nano) - (a.nano < b.nano)


@_add("add", Quantity, Quantity)
def _plus(a: Quantity, b: Quantity) -> Quantity:
    return Quantity(a.nano + b.nano)


@_add("add", Quantity, int)
def _plus_int(a: Quantity, b: int) -> Quantity:
    return Quantity(a.nano + b * _UNIT)


@_add("sub", Quantity, Quantity)
def _minus(a: Quantity, b: Quantity) -> Quantity:
    return Quantity(a.nano - b.nano)


@_add("sub", Quantity, int)
def _minus_int(a: Quantity, b: int) -> Quantity:
    return Quantity(a.nano - b * _UNIT)
