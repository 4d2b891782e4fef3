"""Durations as people and the API write them: Go's "1h30m", and the ages of `kubectl get`.

Read by apiserver/table, and by whoever parses a duration flag. Moments themselves are in api.scalars.
"""

from __future__ import annotations

import re
from decimal import Decimal

_UNITS = {"ns": 1, "us": 10**3, "µs": 10**3, "μs": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}
_PART = re.compile(r"([0-9]*\.?[0-9]*)(ns|us|µs|μs|ms|s|m|h)")


def parse_duration(text: str) -> float:
    """Seconds of "300ms", "1h30m", "-1.5h", "0". Raises ValueError."""
    rest = text[1:] if text[:1] in ("-", "+") else text
    if rest == "0":
        return 0.0
    total, position = Decimal(0), 0
    while position < len(rest):
        match = _PART.match(rest, position)
        if match is None or match.group(1) in ("", "."):
            raise ValueError(f'time: invalid duration "{text}"')
        total += Decimal(match.group(1)) * _UNITS[match.group(2)]
        position = match.end()
    if not rest:
        raise ValueError(f'time: invalid duration "{text}"')
    return float(total / 10**9) * (-1 if text[0] == "-" else 1)


def render_duration(seconds: float) -> str:
    """As Go prints a time.Duration of whole seconds or more: "1h30m0s", "1.5s", "0s"; below a second "300ms"."""
    if seconds == 0:
        return "0s"
    sign, nano = ("-", round(-seconds * 10**9)) if seconds < 0 else ("", round(seconds * 10**9))
    for unit, size in (("ns", 1), ("µs", 10**3), ("ms", 10**6)):
        if nano < size * 1000:
            return f"{sign}{_fraction(nano, size)}{unit}"
    hours, nano = divmod(nano, _UNITS["h"])
    minutes, nano = divmod(nano, _UNITS["m"])
    head = f"{hours}h{minutes}m" if hours else f"{minutes}m" if minutes else ""
    return f"{sign}{head}{_fraction(nano, 10**9)}s"


def _fraction(amount: int, unit: int) -> str:
    whole, rest = divmod(amount, unit)
    return f"{whole}.{rest:0{len(str(unit)) - 1}d}".rstrip("0") if rest else str(whole)


def render_age(seconds: float) -> str:
    """How `kubectl get` shows an age: at most two units, coarser the older ("90s", "5m10s", "3h", "2d4h", "1y30d")."""
    whole = int(seconds)
    if whole < -1:
        return "<invalid>"
    if whole < 0:
        return "0s"
    minutes, hours, days = whole // 60, whole // 3600, whole // 86400
    years = days // 365
    if whole < 120:
        return f"{whole}s"
    if minutes < 10:
        return _two(minutes, "m", whole % 60, "s")
    if minutes < 180:
        return f"{minutes}m"
    if hours < 8:
        return _two(hours, "h", minutes % 60, "m")
    if hours < 48:
        return f"{hours}h"
    if hours < 192:
        return _two(days, "d", hours % 24, "h")
    if days < 730:
        return f"{days}d"
    if years < 8:
        return _two(years, "y", days % 365, "d")
    return f"{years}y"


def _two(large: int, large_unit: str, small: int, small_unit: str) -> str:
    return f"{large}{large_unit}{small}{small_unit}" if small else f"{large}{large_unit}"
