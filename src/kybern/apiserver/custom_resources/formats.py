"""The formats of texts that a v1.36 API server checks; others are taken for notes. Pure.

Source: "Validation" of custom resources in the Kubernetes documentation, which names them; RFC 3339, 5321, 4648, 9562.
"""

from __future__ import annotations

import base64
import binascii
import datetime
import functools
import ipaddress
import re
import urllib.parse
from collections.abc import Callable
from typing import Any

import re2

from kybern.api import codec, scalars
from kybern.machinery import names
from kybern.machinery.validation import rules


def _pattern(text: str) -> Callable[[str], bool]:
    # re2: linear in what is matched, for users send megabytes. Made when first needed: together they take 0.1 s.
    compiled = functools.cache(lambda: re2.compile(text))
    return lambda value: compiled().fullmatch(value) is not None


_UUID = r"[0-9a-f]{8}-?[0-9a-f]{4}-?%s[0-9a-f]{3}-?%s[0-9a-f]{3}-?[0-9a-f]{12}"
_LETTER = r"a-zA-Z\p{S}\p{L}"
_HOSTNAME = (
    rf"[0-9{_LETTER}](-?[0-9{_LETTER}]{{0,62}})?|"
    rf"([0-9{_LETTER}]([0-9{_LETTER}-]{{0,61}}[0-9{_LETTER}])?\.)+[a-zA-Z\p{{L}}]{{2,63}}"
)
_RGB = r"rgb\(\s*(0|[1-9]\d?|1\d\d?|2[0-4]\d|25[0-5])\s*(,\s*(0|[1-9]\d?|1\d\d?|2[0-4]\d|25[0-5])\s*){2}\)"
_CARD = (
    r"(?:4[0-9]{12}(?:[0-9]{3})?|5[1-5][0-9]{14}|6(?:011|5[0-9][0-9])[0-9]{12}|3[47][0-9]{13}|3(?:0[0-5]|[68][0-9])"
    r"[0-9]{11}|(?:2131|1800|35\d{3})\d{11})"
)
_UNITS = (
    "nanoseconds?|nanos?|nans?|ns|microseconds?|micros?|µs|μs|us|milliseconds?|millis?|ms|seconds?|secs?|s|minutes?|"
    "mins?|m|hours?|hrs?|h|days?|d|weeks?|wks?|w"
)
_is_go_duration = _pattern(r"[+-]?(0|((\d+(\.\d*)?|\.\d+)(ns|us|µs|μs|ms|s|m|h))+)")
_is_long_duration = _pattern(rf"(\d+)\s*({_UNITS})")


def _date(value: str) -> bool:
    try:
        datetime.datetime.strptime(value, "%Y-%m-%d")
    except ValueError:
        return False
    return len(value) == 10


def _date_time(value: str) -> bool:
    try:
        scalars.parse_time(value)
    except ValueError:
        return False
    return True


def _base64(value: str) -> bool:
    if not value:
        return False
    try:
        base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        return False
    return True


def _duration(value: str) -> bool:
    return _is_go_duration(value) or _is_long_duration(value)


def _uri(value: str) -> bool:
    if not value or any(c <= " " or c == "\x7f" for c in value):
        return False
    try:
        parts = urllib.parse.urlsplit(value)
        _ = parts.port
    except ValueError:
        return False
    return bool(parts.scheme) or value.startswith("/")


def _email(value: str) -> bool:
    """An address as in a message's head, with a name before it or not. RFC 5322."""
    name, bracket, rest = value.partition("<")
    if bracket:
        if not rest.endswith(">") or any(c in name for c in ">@"):
            return False
        value = rest[:-1]
    local, at, domain = value.rpartition("@")
    return bool(at) and _is_local_part(local) and _is_domain(domain)


def _ip(version: int) -> Callable[[str], bool]:
    def check(value: str) -> bool:
        address = rules.parse_ip(value)
        dotted = "." in value and ":" not in value
        return address is not None and (dotted if version == 4 else not dotted)

    return check


def _cidr(value: str) -> bool:
    try:
        ipaddress.ip_network(value, strict=False)
    except ValueError:
        return False
    return "/" in value


def _isbn10(value: str) -> bool:
    digits = re.sub(r"[\s-]", "", value)
    if re.fullmatch(r"[0-9]{9}[0-9X]", digits) is None:
        return False
    return sum((10 - i) * (10 if c == "X" else int(c)) for i, c in enumerate(digits)) % 11 == 0


def _isbn13(value: str) -> bool:
    digits = re.sub(r"[\s-]", "", value)
    if re.fullmatch(r"[0-9]{13}", digits) is None:
        return False
    return sum(int(c) * (3 if i % 2 else 1) for i, c in enumerate(digits)) % 10 == 0


def _credit_card(value: str) -> bool:
    digits = re.sub(r"[^0-9]", "", value)
    if re.fullmatch(_CARD, digits) is None:
        return False
    total = 0
    for i, c in enumerate(reversed(digits)):
        number = int(c) * (2 if i % 2 else 1)
        total += number - 9 if number > 9 else number
    return total % 10 == 0


_is_mac = _pattern(
    r"[0-9a-fA-F]{2}((:[0-9a-fA-F]{2}){5}|(-[0-9a-fA-F]{2}){5}|(:[0-9a-fA-F]{2}){7}|(-[0-9a-fA-F]{2}){7}|"
    r"(:[0-9a-fA-F]{2}){19}|(-[0-9a-fA-F]{2}){19})"
)
_is_short_mac = _pattern(r"[0-9a-fA-F]{12}|[0-9a-fA-F]{4}(\.[0-9a-fA-F]{4}){2}([0-9a-fA-F.]{5})?")
_is_local_part = _pattern(r"[^@<>()\[\]\\,;:\"\s]+")
_is_domain = _pattern(r"[^@<>()\[\]\\,;:\"\s.]+(\.[^@<>()\[\]\\,;:\"\s.]+)*")
_is_hostname = _pattern(_HOSTNAME)
_CHECKS: dict[str, Callable[[str], bool]] = {
    "bsonobjectid": _pattern(r"[0-9a-fA-F]{24}"),
    "uri": _uri,
    "email": _email,
    "hostname": lambda value: len(value) <= 255 and _is_hostname(value),
    "ipv4": _ip(4),
    "ipv6": _ip(6),
    "cidr": _cidr,
    "mac": lambda value: _is_mac(value) or _is_short_mac(value),
    "uuid": _pattern("(?i)" + _UUID % ("[0-9a-f]", "[0-9a-f]")),
    "uuid3": _pattern("(?i)" + _UUID % ("3", "[0-9a-f]")),
    "uuid4": _pattern("(?i)" + _UUID % ("4", "[89ab]")),
    "uuid5": _pattern("(?i)" + _UUID % ("5", "[89ab]")),
    "isbn": lambda value: _isbn10(value) or _isbn13(value),
    "isbn10": _isbn10,
    "isbn13": _isbn13,
    "creditcard": _credit_card,
    "ssn": _pattern(r"\d{3}[- ]\d{2}[- ]\d{4}"),
    "hexcolor": _pattern(r"#?([0-9a-fA-F]{3}|[0-9a-fA-F]{6})"),
    "rgbcolor": _pattern(_RGB),
    "byte": _base64,
    "date": _date,
    "date-time": _date_time,
    "datetime": _date_time,
    "duration": _duration,
    "k8s-short-name": lambda value: not names.check_label(value),
    "k8s-long-name": lambda value: not names.check_subdomain(value),
}


def is_valid(form: str, value: str) -> bool:
    """Whether a text is of a format; of one that nobody knows, every text is."""
    check = _CHECKS.get(form)
    return check is None or check(value)


def shown(choice: Any) -> str:
    """A value of an enum as a message tells it."""
    return choice if isinstance(choice, str) else codec.encode(choice).decode()
