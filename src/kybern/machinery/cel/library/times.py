"""Timestamps and durations: parsing, arithmetic, calendar fields.

Source: the CEL language definition, "Timestamps and durations"; Go's notation of durations.
"""

from __future__ import annotations

import datetime
import re
import zoneinfo
from functools import lru_cache
from typing import Final

from kybern.machinery.cel import values
from kybern.machinery.cel.errors import EvaluationError
from kybern.machinery.cel.functions import Library
from kybern.machinery.cel.library import standard
from kybern.machinery.cel.values import SECOND, Duration, Timestamp

_FIELDS: Final = (
    "getFullYear", "getMonth", "getDate", "getDayOfMonth", "getDayOfWeek", "getDayOfYear", "getHours", "getMinutes",
    "getSeconds", "getMilliseconds",
)  # fmt: skip
_PARTS: Final = ("getHours", "getMinutes", "getSeconds", "getMilliseconds")

LIBRARY = Library(
    """
    timestamp(string): google.protobuf.Timestamp
    timestamp(int): google.protobuf.Timestamp
    timestamp(google.protobuf.Timestamp): google.protobuf.Timestamp
    duration(string): google.protobuf.Duration
    duration(int): google.protobuf.Duration
    duration(google.protobuf.Duration): google.protobuf.Duration
    _+_(google.protobuf.Timestamp, google.protobuf.Duration): google.protobuf.Timestamp
    _+_(google.protobuf.Duration, google.protobuf.Timestamp): google.protobuf.Timestamp
    _+_(google.protobuf.Duration, google.protobuf.Duration): google.protobuf.Duration
    _-_(google.protobuf.Timestamp, google.protobuf.Timestamp): google.protobuf.Duration
    _-_(google.protobuf.Timestamp, google.protobuf.Duration): google.protobuf.Timestamp
    _-_(google.protobuf.Duration, google.protobuf.Duration): google.protobuf.Duration
    """
    + "\n".join(f"google.protobuf.Timestamp -> {f}({zone}): int" for f in _FIELDS for zone in ("", "string"))
    + "\n"
    + "\n".join(f"google.protobuf.Duration -> {f}(): int" for f in _PARTS)
)
_add = LIBRARY.add

_RFC3339 = re.compile(r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(?:[.,](\d{1,9})\d*)?(?:Z|([+-])(\d\d):(\d\d))\Z")
_UNITS: Final = {
    "ns": 1,
    "us": 10**3,
    "µs": 10**3,
    "μs": 10**3,
    "ms": 10**6,
    "s": SECOND,
    "m": 60 * SECOND,
    "h": 3600 * SECOND,
}
_PART = re.compile(r"([0-9]*)(?:\.([0-9]*))?(ns|us|µs|μs|ms|s|m|h)")
_EPOCH = datetime.date(1970, 1, 1).toordinal()


def parse_timestamp(text: str) -> Timestamp:
    """RFC 3339. Raises ValueError."""
    match = _RFC3339.match(text)
    if match is None or not text.isascii():
        raise ValueError(text)
    year, month, day, hour, minute, second = (int(g) for g in match.groups()[:6])
    if hour > 23 or minute > 59 or second > 59:
        raise ValueError(text)
    seconds = (datetime.date(year, month, day).toordinal() - _EPOCH) * 86400 + hour * 3600 + minute * 60 + second
    if match[8]:
        if int(match[9]) > 23 or int(match[10]) > 59:
            raise ValueError(text)
        offset = int(match[9]) * 3600 + int(match[10]) * 60
        seconds += -offset if match[8] == "+" else offset
    if not values.MIN_SECONDS <= seconds <= values.MAX_SECONDS:
        raise ValueError(text)
    moment = Timestamp(seconds * SECOND + int((match[7] or "").ljust(9, "0")))
    if match[8]:
        moment.zone = f"{match[8]}{match[9]}:{match[10]}"
    return moment


def parse_duration(text: str) -> Duration:
    """`1h30m`, `-1.5s`. Raises ValueError."""
    body = text[1:] if text[:1] in ("+", "-") else text
    if body == "0":
        return Duration(0)
    total, at = 0, 0
    while at < len(body):
        match = _PART.match(body, at)
        if match is None or not (match[1] or match[2]) or len(match[1]) > 20:
            raise ValueError(text)
        unit = _UNITS[match[3]]
        fraction = (match[2] or "")[:18]
        total += int(match[1] or 0) * unit + (int(fraction) * unit // 10 ** len(fraction) if fraction else 0)
        at = match.end()
    total = -total if text.startswith("-") else total
    if not body or not values.MIN_INT <= total <= values.MAX_INT:
        raise ValueError(text)
    return Duration(total)


def render_timestamp(nanos: int) -> str:
    zone = getattr(nanos, "zone", "")
    seconds, rest = divmod(nanos, SECOND)
    if zone:
        offset = int(zone[1:3]) * 3600 + int(zone[4:]) * 60
        seconds += offset if zone[0] == "+" else -offset
    days, second = divmod(seconds, 86400)
    date = datetime.date.fromordinal(days + _EPOCH)
    fraction = f".{rest:09d}".rstrip("0") if rest else ""
    hour, minute = second // 3600, second // 60 % 60
    return f"{date:%m-%dT}".join(
        (f"{date.year:04d}-", f"{hour:02d}:{minute:02d}:{second % 60:02d}{fraction}{zone or 'Z'}")
    )


def render_duration(nanos: int) -> str:
    """In seconds: `90s`, `1.5s`."""
    whole, rest = divmod(abs(nanos), SECOND)
    fraction = f".{rest:09d}".rstrip("0") if rest else ""
    return f"{'-' if nanos < 0 else ''}{whole}{fraction}s"


@_add("timestamp", str)
def _timestamp(text: str) -> Timestamp:
    try:
        return parse_timestamp(text)
    except ValueError:
        raise standard.not_converted("string", "google.protobuf.Timestamp") from None


@_add("timestamp", int)
def _timestamp_of_int(seconds: int) -> Timestamp:
    return values.checked_timestamp(seconds * SECOND)


@_add("timestamp", Timestamp)
@_add("duration", Duration)
def _same(a: int) -> int:
    return a


@_add("duration", str)
def _duration(text: str) -> Duration:
    try:
        return parse_duration(text)
    except ValueError:
        raise standard.not_converted("string", "google.protobuf.Duration") from None


@_add("duration", int)
def _duration_of_int(nanos: int) -> Duration:
    return Duration(nanos)


@_add("string", Timestamp)
def _string_of_timestamp(a: Timestamp) -> str:
    return render_timestamp(a)


@_add("string", Duration)
def _string_of_duration(a: Duration) -> str:
    return render_duration(a)


@_add("int", Timestamp)
def _int_of_timestamp(a: Timestamp) -> int:
    return int(a) // SECOND


@_add("int", Duration)
def _int_of_duration(a: Duration) -> int:
    return int(a)


@_add("_+_", Timestamp, Duration)
@_add("_+_", Duration, Timestamp)
def _later(a: int, b: int) -> Timestamp:
    return values.checked_timestamp(int(a) + int(b))


@_add("_-_", Timestamp, Duration)
def _earlier(a: int, b: int) -> Timestamp:
    return values.checked_timestamp(int(a) - int(b))


@_add("_+_", Duration, Duration)
def _longer(a: int, b: int) -> Duration:
    return values.checked_duration(int(a) + int(b))


@_add("_-_", Duration, Duration)
@_add("_-_", Timestamp, Timestamp)
def _difference(a: int, b: int) -> Duration:
    return values.checked_duration(int(a) - int(b))


@lru_cache(maxsize=64)
def _zone(name: str) -> datetime.tzinfo:
    match = re.fullmatch(r"([+-]?)(\d\d):(\d\d)", name)
    if match is not None:
        minutes = int(match[2]) * 60 + int(match[3])
        if minutes >= 1440:
            raise EvaluationError(f"unknown time zone {name}")
        return datetime.timezone(datetime.timedelta(minutes=-minutes if match[1] == "-" else minutes))
    if name in ("", "UTC"):
        return datetime.UTC
    try:
        return zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        raise EvaluationError(f"unknown time zone {name}") from None


def _field(name: str, moment: Timestamp, zone: str) -> int:
    seconds, nanos = divmod(int(moment), SECOND)
    try:
        at = (datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC) + datetime.timedelta(seconds=seconds)).astimezone(
            _zone(zone)
        )
    except OverflowError:
        raise EvaluationError("timestamp overflow") from None
    match name:
        case "getFullYear":
            return at.year
        case "getMonth":
            return at.month - 1
        case "getDate":
            return at.day
        case "getDayOfMonth":
            return at.day - 1
        case "getDayOfWeek":
            return at.isoweekday() % 7
        case "getDayOfYear":
            return at.timetuple().tm_yday - 1
        case "getHours":
            return at.hour
        case "getMinutes":
            return at.minute
        case "getSeconds":
            return at.second
    return nanos // 10**6


def _register(name: str) -> None:
    _add(name, Timestamp)(lambda moment: _field(name, moment, "UTC"))
    _add(name, Timestamp, str)(lambda moment, zone: _field(name, moment, zone))


for _name in _FIELDS:
    _register(_name)


def _whole(nanos: int, unit: int) -> int:
    return nanos // unit if nanos >= 0 else -(-nanos // unit)


_add("getHours", Duration)(lambda a: _whole(a, 3600 * SECOND))
_add("getMinutes", Duration)(lambda a: _whole(a, 60 * SECOND))
_add("getSeconds", Duration)(lambda a: _whole(a, SECOND))
_add("getMilliseconds", Duration)(lambda a: _whole(a, 10**6))
