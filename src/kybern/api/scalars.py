"""Scalar types of the Kubernetes API, and the base of all generated Structs.

Used by the generated modules; `codec` turns JSON into these and back. On the way in a Quantity, Time or
MicroTime is checked and brought into upstream's canonical text, so that equal values are equal bytes.
"""

from __future__ import annotations

import datetime
import functools
import re
from typing import Annotated, Any

import msgspec

Int32 = Annotated[int, msgspec.Meta(ge=-(2**31), le=2**31 - 1)]
Int64 = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
IntOrString = Int32 | str


class Struct(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True, kw_only=True):
    """Base of every API type. What was not set is not emitted; required fields always are."""


# Factories of required fields. msgspec omits `list`, `dict` and plain defaults, never the result of
# another factory, which is how a required field stays on the wire when it is empty.
def empty_list() -> list[Any]:
    return []


def empty_map() -> dict[str, Any]:
    return {}


def empty_string() -> str:
    return ""


def zero() -> int:
    return 0


def zero_float() -> float:
    return 0.0


def false() -> bool:
    return False


class Quantity(str):
    """A resource amount in canonical text ("100m", "64Mi"). Arithmetic is in machinery.quantity."""

    __slots__ = ()


class Time(str):
    """RFC 3339 in UTC with whole seconds: `2006-01-02T15:04:05Z`."""

    __slots__ = ()


class MicroTime(str):
    """RFC 3339 in UTC with six decimals: `2006-01-02T15:04:05.000000Z`."""

    __slots__ = ()


class FieldsV1:
    """A set of fields as its JSON text. Many objects of one shape have equal sets: they share one instance."""

    __slots__ = ("text",)

    def __init__(self, text: bytes) -> None:
        self.text = text

    @staticmethod
    @functools.lru_cache(maxsize=8192)
    def of(text: bytes) -> FieldsV1:
        return FieldsV1(text)

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, FieldsV1) and self.text == other.text)

    def __hash__(self) -> int:
        return hash(self.text)

    def __repr__(self) -> str:
        return f"FieldsV1({self.text!r})"


_BINARY = {"Ki": 10, "Mi": 20, "Gi": 30, "Ti": 40, "Pi": 50, "Ei": 60}
_DECIMAL = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_DECIMAL_SUFFIX = {exponent: suffix for suffix, exponent in _DECIMAL.items()}
_QUANTITY = re.compile(
    r"([+-]?)([0-9]{1,64}(?:\.[0-9]{0,64})?|\.[0-9]{1,64})(Ki|Mi|Gi|Ti|Pi|Ei|[numkMGTPE]|[eE][+-]?[0-9]{1,4}|)"
)
_LARGEST = (2**63 - 1) * 10**9
# Of exponents: amounts beyond mean nothing, and within, every one is a float.
_FURTHEST = 200


@functools.lru_cache(maxsize=8192)
def parse_quantity(text: str) -> tuple[int, str]:
    """(nano-units rounded away from zero, format "binary", "decimal" or "exponent"). Raises ValueError.

    In the binary form larger magnitudes than 2**63-1 are capped, as upstream does.
    Source: the Quantity grammar in the Kubernetes API reference.
    """
    match = _QUANTITY.fullmatch(text)
    if match is None:
        raise ValueError("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'")
    sign, number, suffix = match.groups()
    whole, _, fraction = number.partition(".")
    digits = int((whole or "0") + fraction)
    exponent = 9 - len(fraction)
    form = "decimal"
    if suffix in _BINARY:
        digits <<= _BINARY[suffix]
        form = "binary"
    elif suffix in _DECIMAL:
        exponent += _DECIMAL[suffix]
    else:
        power = int(suffix[1:])
        exponent += max(-_FURTHEST, min(_FURTHEST, power))
        form = "exponent"
    nano = digits * 10**exponent if exponent >= 0 else -(-digits // 10**-exponent)
    if form == "binary":
        nano = min(nano, _LARGEST)
    return (-nano if sign == "-" else nano), form


def render_quantity(nano: int, form: str) -> str:
    """The canonical text of an amount: no fraction, the largest suffix that divides it."""
    if nano == 0:
        return "0"
    sign, nano = ("-", -nano) if nano < 0 else ("", nano)
    whole, rest = divmod(nano, 10**9)
    if form == "binary" and rest == 0 and whole >= 1024:
        for suffix, shift in reversed(_BINARY.items()):
            if whole % (1 << shift) == 0:
                return f"{sign}{whole >> shift}{suffix}"
        return f"{sign}{whole}"
    if form == "binary" and rest == 0:
        return f"{sign}{whole}"
    exponent = -9
    while (exponent < 18 or form == "exponent") and nano % 1000 == 0:
        nano //= 1000
        exponent += 3
    if form == "exponent" and exponent != 0:
        return f"{sign}{nano}e{exponent}"
    return f"{sign}{nano}{_DECIMAL_SUFFIX[exponent]}"


@functools.lru_cache(maxsize=8192)
def canonical_quantity(text: str) -> Quantity:
    """The text upstream would send back for `text`. Raises ValueError."""
    return Quantity(render_quantity(*parse_quantity(text)))


_TIME = re.compile(r"\d{4}-\d{2}-\d{2}[Tt]\d{2}:\d{2}:\d{2}(?:\.\d{1,9})?(?:[Zz]|[+-]\d{2}:\d{2})", re.ASCII)
_CANONICAL_TIME = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}Z", re.ASCII)
_CANONICAL_LENGTH = 20


def parse_time(text: str) -> datetime.datetime:
    """An aware UTC datetime of an RFC 3339 text; digits past microseconds are cut. Raises ValueError."""
    if _TIME.fullmatch(text) is None:
        raise ValueError(f'parsing time "{text}" as "2006-01-02T15:04:05Z07:00": cannot parse')
    head, dot, tail = text.replace("t", "T").replace("z", "Z").partition(".")
    if dot:
        digits = re.match(r"\d+", tail)
        fraction = digits.group() if digits else ""
        text = f"{head}.{fraction[:6].ljust(6, '0')}{tail[len(fraction) :]}"
    try:
        return datetime.datetime.fromisoformat(text.replace("Z", "+00:00")).astimezone(datetime.UTC)
    except (ValueError, OverflowError) as error:
        raise ValueError(f'parsing time "{text}": {error}') from None


def render_time(moment: datetime.datetime) -> Time:
    """`2006-01-02T15:04:05Z`."""
    m = moment.astimezone(datetime.UTC)  # formatted by hand: strftime takes ten times as long
    return Time(f"{m.year:04}-{m.month:02}-{m.day:02}T{m.hour:02}:{m.minute:02}:{m.second:02}Z")


def render_micro_time(moment: datetime.datetime) -> MicroTime:
    """`2006-01-02T15:04:05.000000Z`."""
    return MicroTime(moment.astimezone(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ").zfill(27))


def convert_scalar(kind: type, value: Any) -> Any:
    """msgspec's `dec_hook`: what JSON holds, as one of the types above. Raises ValueError."""
    if kind is Quantity:
        if isinstance(value, bool) or not isinstance(value, (str, int, float)):
            raise ValueError("quantities must be a string or a number")
        return canonical_quantity(value if isinstance(value, str) else repr(value))
    if kind is FieldsV1:
        return FieldsV1.of(msgspec.json.encode(value))
    if not isinstance(value, str):
        raise ValueError("a time must be a string")
    if kind is Time:
        if len(value) == _CANONICAL_LENGTH and _is_canonical(value):
            return Time(value)
        return render_time(parse_time(value))
    if kind is MicroTime:
        micro = _MICRO.search(value)
        if micro is None:
            raise ValueError(f'parsing time "{value}" as "2006-01-02T15:04:05.000000Z07:00": no six decimals')
        whole = value[: micro.start()]
        if value == f"{whole}{value[micro.start() : micro.end(1) - 1]}Z" and _is_canonical(f"{whole}Z"):
            return MicroTime(value)
        return render_micro_time(parse_time(value))
    raise NotImplementedError(f"no scalar type {kind}")


_MICRO = re.compile(r"\.\d{6}(Z|[+-]\d\d:\d\d)$")


@functools.lru_cache(maxsize=4096)  # most objects of a cluster tell of the same few moments
def _is_canonical(value: str) -> bool:
    """It is a time, and would be rendered as it is."""
    if not _CANONICAL_TIME.fullmatch(value):
        return False
    try:
        parse_time(value)
    except ValueError:
        return False
    return True
