"""CEL's standard definitions: operators, sizes, strings, conversions. See times for timestamps and durations.

Source: the CEL language definition, "List of standard definitions".
"""

from __future__ import annotations

import math
import re
from typing import Any, Final

from kybern.machinery.cel import values
from kybern.machinery.cel.errors import EvaluationError
from kybern.machinery.cel.functions import ANY, LIST, MAP, Library, is_deep, size, traversal, weight
from kybern.machinery.cel.library import patterns
from kybern.machinery.cel.values import TypeValue, Uint

_COMPARED = (
    "bool",
    "int",
    "uint",
    "double",
    "string",
    "bytes",
    "google.protobuf.Timestamp",
    "google.protobuf.Duration",
)
_NUMERIC = ("int", "uint", "double")
_MARKS: Final = ("_<_", "_<=_", "_>_", "_>=_")


def _comparisons() -> str:
    lines = [f"{mark}({kind}, {kind}): bool" for mark in _MARKS for kind in _COMPARED]
    lines += [f"{mark}({a}, {b}): bool" for mark in _MARKS for a in _NUMERIC for b in _NUMERIC if a != b]
    return "\n".join(lines)


LIBRARY = Library(
    """
    _&&_(bool, bool): bool
    _||_(bool, bool): bool
    _?_:_(bool, A, A): A
    !_(bool): bool
    @not_strictly_false(bool): bool
    -_(int): int
    -_(double): double
    _==_(A, A): bool
    _!=_(A, A): bool
    _+_(int, int): int
    _+_(uint, uint): uint
    _+_(double, double): double
    _+_(string, string): string
    _+_(bytes, bytes): bytes
    _+_(list(A), list(A)): list(A)
    _-_(int, int): int
    _-_(uint, uint): uint
    _-_(double, double): double
    _*_(int, int): int
    _*_(uint, uint): uint
    _*_(double, double): double
    _/_(int, int): int
    _/_(uint, uint): uint
    _/_(double, double): double
    _%_(int, int): int
    _%_(uint, uint): uint
    @in(A, list(A)): bool
    @in(A, map(A, B)): bool
    _[_](list(A), int): A
    _[_](map(A, B), A): B
    _[_](optional_type(list(A)), int): optional_type(A)
    _[_](optional_type(map(A, B)), A): optional_type(B)
    _[?_](list(A), int): optional_type(A)
    _[?_](map(A, B), A): optional_type(B)
    _[?_](optional_type(list(A)), int): optional_type(A)
    _[?_](optional_type(map(A, B)), A): optional_type(B)
    size(string): int
    size(bytes): int
    size(list(A)): int
    size(map(A, B)): int
    string -> size(): int
    bytes -> size(): int
    list(A) -> size(): int
    map(A, B) -> size(): int
    string -> contains(string): bool
    string -> startsWith(string): bool
    string -> endsWith(string): bool
    string -> matches(string): bool
    matches(string, string): bool
    type(A): type(A)
    dyn(A): dyn
    bool(bool): bool
    bool(string): bool
    bytes(bytes): bytes
    bytes(string): bytes
    double(double): double
    double(int): double
    double(uint): double
    double(string): double
    int(int): int
    int(uint): int
    int(double): int
    int(string): int
    int(google.protobuf.Timestamp): int
    int(google.protobuf.Duration): int
    uint(uint): uint
    uint(int): uint
    uint(double): uint
    uint(string): uint
    string(string): string
    string(bool): string
    string(int): string
    string(uint): string
    string(double): string
    string(bytes): string
    string(google.protobuf.Timestamp): string
    string(google.protobuf.Duration): string
    """
    + _comparisons()
)
_add = LIBRARY.add


# -- logic, equality, order ------------------------------------------------------------------------------------------


@_add("!_", bool)
def _not(a: bool) -> bool:
    return not a


def _compare_cost(a: Any, b: Any) -> int:
    cost = math.ceil(min(size(a), size(b)) * 0.1)
    if is_deep(a) and is_deep(b):
        return max(cost, min(weight(a), weight(b)) // 2)
    return cost


@_add("_==_", ANY, ANY, cost=_compare_cost)
def _equal(a: Any, b: Any) -> bool:
    return values.equals(a, b)


@_add("_!=_", ANY, ANY, cost=_compare_cost)
def _unequal(a: Any, b: Any) -> bool:
    return not values.equals(a, b)


@_add("_<_", ANY, ANY, cost=_compare_cost)
def _less(a: Any, b: Any) -> bool:
    return values.compare(a, b) < 0


@_add("_<=_", ANY, ANY, cost=_compare_cost)
def _less_or_equal(a: Any, b: Any) -> bool:
    return values.compare(a, b) <= 0


@_add("_>_", ANY, ANY, cost=_compare_cost)
def _greater(a: Any, b: Any) -> bool:
    return values.compare(a, b) > 0


@_add("_>=_", ANY, ANY, cost=_compare_cost)
def _greater_or_equal(a: Any, b: Any) -> bool:
    return values.compare(a, b) >= 0


# -- arithmetic ------------------------------------------------------------------------------------------------------


@_add("-_", int)
def _negate(a: int) -> int:
    return values.checked_int(-a)


@_add("-_", float)
def _negate_double(a: float) -> float:
    return -a


def _sum_cost(a: Any, b: Any) -> int:
    if type(a) in (str, bytes):
        return math.ceil((size(a) + size(b)) * 0.1)
    together = size(a) + size(b)
    # Upstream joins lists lazily for 1; ours are made, and a doubling chain must not eat the memory.
    return 1 if together <= 1000 else together // 10


@_add("_+_", int, int)
def _plus(a: int, b: int) -> int:
    return values.checked_int(a + b)


@_add("_+_", Uint, Uint)
def _plus_uint(a: Uint, b: Uint) -> Uint:
    return values.checked_uint(int(a) + int(b))


@_add("_+_", float, float)
@_add("_+_", str, str, cost=_sum_cost)
@_add("_+_", bytes, bytes, cost=_sum_cost)
def _join(a: Any, b: Any) -> Any:
    return a + b


@_add("_+_", LIST, LIST, cost=_sum_cost)
def _join_lists(a: Any, b: Any) -> Any:
    by_schema = getattr(a, "merged_with", None)
    return by_schema(b) if by_schema is not None else [*a, *b]


@_add("_-_", int, int)
def _minus(a: int, b: int) -> int:
    return values.checked_int(a - b)


@_add("_-_", Uint, Uint)
def _minus_uint(a: Uint, b: Uint) -> Uint:
    return values.checked_uint(int(a) - int(b))


@_add("_-_", float, float)
def _minus_double(a: float, b: float) -> float:
    return a - b


@_add("_*_", int, int)
def _times(a: int, b: int) -> int:
    return values.checked_int(a * b)


@_add("_*_", Uint, Uint)
def _times_uint(a: Uint, b: Uint) -> Uint:
    return values.checked_uint(int(a) * int(b))


@_add("_*_", float, float)
def _times_double(a: float, b: float) -> float:
    return a * b


@_add("_/_", int, int)
def _divide(a: int, b: int) -> int:
    if b == 0:
        raise EvaluationError("division by zero")
    quotient = abs(a) // abs(b)  # towards zero
    return values.checked_int(quotient if (a < 0) is (b < 0) else -quotient)


@_add("_/_", Uint, Uint)
def _divide_uint(a: Uint, b: Uint) -> Uint:
    if b == 0:
        raise EvaluationError("division by zero")
    return Uint(int(a) // int(b))


@_add("_/_", float, float)
def _divide_double(a: float, b: float) -> float:
    if b == 0:
        if a == 0 or math.isnan(a):
            return math.nan
        return math.copysign(math.inf, a) * math.copysign(1, b)
    return a / b


@_add("_%_", int, int)
def _modulo(a: int, b: int) -> int:
    if b == 0:
        raise EvaluationError("modulus by zero")
    if a == values.MIN_INT and b == -1:
        raise EvaluationError("integer overflow")
    rest = abs(a) % abs(b)
    return -rest if a < 0 else rest


@_add("_%_", Uint, Uint)
def _modulo_uint(a: Uint, b: Uint) -> Uint:
    if b == 0:
        raise EvaluationError("modulus by zero")
    return Uint(int(a) % int(b))


# -- containers ------------------------------------------------------------------------------------------------------


def _in_cost(_a: Any, container: Any) -> int:
    return max(size(container), weight(container) // 2)


@_add("@in", ANY, LIST, cost=_in_cost)
def _in_list(a: Any, items: Any) -> bool:
    return any(values.equals(a, item) for item in items)


@_add("@in", ANY, MAP)
def _in_map(a: Any, items: Any) -> bool:
    return values.look_up(items, a)[0]


def _index_of(index: Any) -> int:
    if type(index) is float and index.is_integer():
        return int(index)
    if type(index) in (int, Uint):
        return int(index)
    if type(index) is float:
        raise EvaluationError(f"unsupported index value {render_double(index)} in list")
    raise EvaluationError(f"unsupported index type '{values.type_name(index)}' in list")


@_add("_[_]", LIST, ANY)
def _list_index(items: Any, index: Any) -> Any:
    at = _index_of(index)
    if 0 <= at < len(items):
        return items[at]
    raise EvaluationError(f"index out of bounds: {at}")


@_add("_[_]", MAP, ANY)
def _map_index(items: Any, key: Any) -> Any:
    found, value = values.look_up(items, key)
    if found:
        return value
    raise EvaluationError(f"no such key: {render(key)}")


@_add("_[?_]", LIST, ANY)
def _list_optional(items: Any, index: Any) -> values.Optional:
    at = _index_of(index)
    return values.Optional(items[at]) if 0 <= at < len(items) else values.ABSENT


@_add("_[?_]", MAP, ANY)
def _map_optional(items: Any, key: Any) -> values.Optional:
    found, value = values.look_up(items, key)
    return values.Optional(value) if found else values.ABSENT


@_add("_[_]", values.Optional, ANY)
@_add("_[?_]", values.Optional, ANY)
def _optional_optional(container: values.Optional, key: Any) -> values.Optional:
    if not container.present:
        return values.ABSENT
    if values.is_list(container.value):
        return _list_optional(container.value, key)  # type: ignore[no-any-return]
    if values.is_map(container.value):
        return _map_optional(container.value, key)  # type: ignore[no-any-return]
    raise EvaluationError("no such overload")


@_add("size", str)
@_add("size", bytes)
@_add("size", LIST)
@_add("size", MAP)
def _size(a: Any) -> int:
    return len(a)


# -- strings ---------------------------------------------------------------------------------------------------------


@_add("contains", str, str, cost=lambda a, b: traversal(a) * traversal(b))
def _contains(a: str, b: str) -> bool:
    return b in a


@_add("startsWith", str, str, cost=lambda _a, b: traversal(b))
def _starts_with(a: str, b: str) -> bool:
    return a.startswith(b)


@_add("endsWith", str, str, cost=lambda _a, b: traversal(b))
def _ends_with(a: str, b: str) -> bool:
    return a.endswith(b)


@_add("matches", str, str, cost=lambda a, b: math.ceil((1 + len(a)) * 0.1) * math.ceil(len(b) * 0.25))
def _matches(a: str, pattern: str) -> bool:
    return patterns.is_found(pattern, a)


# -- conversions -----------------------------------------------------------------------------------------------------

_INTEGER = re.compile(r"[+-]?[0-9]+\Z")
_FLOAT = re.compile(
    r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?\Z|[+-]?(?:inf|infinity|nan)\Z", re.IGNORECASE
)


def not_converted(given: str, wanted: str) -> EvaluationError:
    return EvaluationError(f"type conversion error from '{given}' to '{wanted}'")


@_add("type", ANY)
def _type(a: Any) -> TypeValue:
    return TypeValue(values.type_name(a))


@_add("dyn", ANY)
@_add("bool", bool)
@_add("bytes", bytes)
@_add("double", float)
@_add("int", int)
@_add("uint", Uint)
@_add("string", str)
def _same(a: Any) -> Any:
    return a


@_add("bool", str)
def _bool(a: str) -> bool:
    if a in ("1", "t", "T", "true", "TRUE", "True"):
        return True
    if a in ("0", "f", "F", "false", "FALSE", "False"):
        return False
    raise not_converted("string", "bool")


@_add("bytes", str, cost=traversal)
def _bytes(a: str) -> bytes:
    return a.encode()


@_add("string", bytes, cost=traversal)
def _string_of_bytes(a: bytes) -> str:
    try:
        return a.decode()
    except UnicodeDecodeError:
        raise EvaluationError("invalid UTF-8 in bytes, cannot convert to string") from None


@_add("double", int)
@_add("double", Uint)
def _double(a: int) -> float:
    return float(a)


@_add("double", str)
def _double_of_string(a: str) -> float:
    if not _FLOAT.match(a):
        raise not_converted("string", "double")
    number = float(a)
    if math.isinf(number) and "inf" not in a.lower():
        raise not_converted("string", "double")
    return number


@_add("int", Uint)
def _int_of_uint(a: Uint) -> int:
    return values.checked_int(int(a))


@_add("int", float)
def _int_of_double(a: float) -> int:
    # Both ends are out: a double next to them is not exact.
    if math.isnan(a) or not float(values.MIN_INT) < a < float(values.MAX_INT):
        raise EvaluationError("integer overflow")
    return int(a)


@_add("int", str)
def _int_of_string(a: str) -> int:
    if not _INTEGER.match(a):
        raise not_converted("string", "int")
    if len(a) > 40 or not values.MIN_INT <= int(a) <= values.MAX_INT:
        raise not_converted("string", "int")
    return int(a)


@_add("uint", int)
def _uint_of_int(a: int) -> Uint:
    return values.checked_uint(a)


@_add("uint", float)
def _uint_of_double(a: float) -> Uint:
    if math.isnan(a) or a < 0 or a >= float(values.MAX_UINT):
        raise EvaluationError("unsigned integer overflow")
    return Uint(int(a))


@_add("uint", str)
def _uint_of_string(a: str) -> Uint:
    if not a.isascii() or not a.isdigit():
        raise not_converted("string", "uint")
    if len(a) > 40 or int(a) > values.MAX_UINT:
        raise not_converted("string", "uint")
    return Uint(int(a))


@_add("string", bool)
def _string_of_bool(a: bool) -> str:
    return "true" if a else "false"


@_add("string", int)
@_add("string", Uint)
def _string_of_int(a: int) -> str:
    return str(int(a))


@_add("string", float)
def render_double(a: float) -> str:
    """As Go's strconv prints it with %g: the shortest digits, an exponent below 1e-4 and from 1e6 on."""
    if math.isnan(a):
        return "NaN"
    if math.isinf(a):
        return "+Inf" if a > 0 else "-Inf"
    if a == 0:
        return "-0" if math.copysign(1, a) < 0 else "0"
    mantissa, _, exponent = f"{a!r}".partition("e")
    digits = mantissa.lstrip("-").replace(".", "")
    point = len(mantissa.lstrip("-").partition(".")[0]) + int(exponent or 0)
    stripped = digits.lstrip("0")
    point -= len(digits) - len(stripped)
    digits = stripped.rstrip("0") or "0"
    sign = "-" if a < 0 else ""
    power = point - 1
    if power < -4 or power >= 6:
        return _exponential(sign, digits, power)
    if power < 0:
        return f"{sign}0.{'0' * (-power - 1)}{digits}"
    whole = digits[: power + 1].ljust(power + 1, "0")
    rest = digits[power + 1 :]
    return f"{sign}{whole}.{rest}" if rest else f"{sign}{whole}"


def _exponential(sign: str, digits: str, power: int) -> str:
    mantissa = digits[0] + (f".{digits[1:]}" if len(digits) > 1 else "")
    return f"{sign}{mantissa}e{'-' if power < 0 else '+'}{abs(power):02d}"


def render(value: Any) -> str:
    """A scalar as messages show it."""
    if type(value) is bool:
        return "true" if value else "false"
    if type(value) is float:
        return render_double(value)  # type: ignore[no-any-return]
    if type(value) is bytes:
        return value.decode(errors="replace")
    return str(int(value)) if isinstance(value, int) else str(value)
