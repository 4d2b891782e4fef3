"""Arithmetic on resource amounts ("100m", "64Mi"), exact in nano-units.

Read by validation, admission (limits, quota), the scheduler and the kubelet. The texts are canonical already when they
come out of the codec; parsing is memoised in api.scalars. Rounding is away from zero.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from kybern.api import scalars
from kybern.api.scalars import Quantity

_NANO = 10**9
_MILLI = 10**6

ZERO = Quantity("0")


def nano(text: str) -> int:
    """Exact. Raises ValueError."""
    return scalars.parse_quantity(text)[0]


def milli(text: str) -> int:
    """Thousandths, rounded away from zero: "0.5" is 500, "1n" is 1."""
    return _round_away(nano(text), _MILLI)


def value(text: str) -> int:
    """Whole units, rounded away from zero: "1500m" is 2."""
    return _round_away(nano(text), _NANO)


def _round_away(amount: int, unit: int) -> int:
    return -(-amount // unit) if amount >= 0 else amount // unit


def compare(a: str, b: str) -> int:
    """-1, 0 or 1."""
    x, y = nano(a), nano(b)
    return (x > y) - (x < y)


def add(a: str, b: str) -> Quantity:
    """The sum, in the format of `a` (of `b` if `a` is zero)."""
    (x, form), (y, other) = scalars.parse_quantity(a), scalars.parse_quantity(b)
    return Quantity(scalars.render_quantity(x + y, form if x else other))


def sub(a: str, b: str) -> Quantity:
    """The difference, in the format of `a` (of `b` if `a` is zero)."""
    (x, form), (y, other) = scalars.parse_quantity(a), scalars.parse_quantity(b)
    return Quantity(scalars.render_quantity(x - y, form if x else other))


def largest(a: str, b: str) -> Quantity:
    return Quantity(a) if nano(a) >= nano(b) else Quantity(b)


def is_integer(text: str) -> bool:
    return nano(text) % _NANO == 0


def is_milli(text: str) -> bool:
    """No finer than a thousandth."""
    return nano(text) % _MILLI == 0


def from_milli(amount: int) -> Quantity:
    """Decimal: 1500 is "1500m", 2000 is "2"."""
    return Quantity(scalars.render_quantity(amount * _MILLI, "decimal"))


def from_value(amount: int, *, binary: bool = False) -> Quantity:
    """1024 is "1024", or "1Ki" if binary."""
    return Quantity(scalars.render_quantity(amount * _NANO, "binary" if binary else "decimal"))


def add_maps(maps: Iterable[Mapping[str, str]]) -> dict[str, Quantity]:
    """Resource lists, summed by name."""
    total: dict[str, Quantity] = {}
    for amounts in maps:
        for name, amount in amounts.items():
            total[name] = add(total[name], amount) if name in total else Quantity(amount)
    return total


def max_maps(maps: Iterable[Mapping[str, str]]) -> dict[str, Quantity]:
    """Resource lists, the largest by name."""
    most: dict[str, Quantity] = {}
    for amounts in maps:
        for name, amount in amounts.items():
            most[name] = largest(most[name], amount) if name in most else Quantity(amount)
    return most
