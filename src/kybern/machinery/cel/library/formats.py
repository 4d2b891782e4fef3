"""Named formats: `format.dns1123Label().validate(name)`. Source: "Kubernetes format library" in the documentation."""

from __future__ import annotations

import base64
import binascii
import datetime
import re
from collections.abc import Callable, Sequence
from typing import Any, Final

from kybern.machinery import names
from kybern.machinery.cel.functions import Library, size
from kybern.machinery.cel.library import times, urls
from kybern.machinery.cel.values import ABSENT, Opaque, Optional

Check = Callable[[str], Sequence[str]]

_UUID = re.compile(r"[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}", re.IGNORECASE)


def _prefix(check: Check) -> Check:
    """Of a name's beginning: a dash at its end is allowed."""
    return lambda text: check(f"{text[:-1]}a" if text.endswith("-") else text)


def _uri(text: str) -> list[str]:
    try:
        urls.parse(text)
    except ValueError as error:
        return [f'parse "{text}": {error}']
    return []


def _uuid(text: str) -> list[str]:
    return [] if _UUID.fullmatch(text) else ["does not match the UUID format"]


def _byte(text: str) -> list[str]:
    try:
        base64.b64decode(text, validate=True)
    except (ValueError, binascii.Error):
        return ["invalid base64"]
    return []


def _date(text: str) -> list[str]:
    try:
        datetime.datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=datetime.UTC)
    except ValueError:
        return ["invalid date"]
    return []


def _datetime(text: str) -> list[str]:
    try:
        times.parse_timestamp(text)
    except ValueError:
        return ["invalid datetime"]
    return []


CHECKS: Final[dict[str, Check]] = {
    "dns1123Label": names.check_label,
    "dns1123Subdomain": names.check_subdomain,
    "dns1035Label": names.check_label_1035,
    "qualifiedName": names.check_qualified,
    "dns1123LabelPrefix": _prefix(names.check_label),
    "dns1123SubdomainPrefix": _prefix(names.check_subdomain),
    "dns1035LabelPrefix": _prefix(names.check_label_1035),
    "labelValue": names.check_label_value,
    "uri": _uri,
    "uuid": _uuid,
    "byte": _byte,
    "date": _date,
    "datetime": _datetime,
}

LIBRARY = Library(
    "format.named(string): optional_type(kubernetes.NamedFormat)\n"
    "kubernetes.NamedFormat -> validate(string): optional_type(list(string))\n"
    + "\n".join(f"format.{name}(): kubernetes.NamedFormat" for name in CHECKS)
)
_add = LIBRARY.add


class NamedFormat(Opaque):
    __slots__ = ("check", "name")
    cel_type = "kubernetes.NamedFormat"

    def __init__(self, name: str) -> None:
        self.name = name
        self.check = CHECKS[name]

    def equals(self, other: Any) -> bool:
        return bool(self.name == other.name)


@_add("format.named", str)
def _named(name: str) -> Optional:
    return Optional(NamedFormat(name)) if name in CHECKS else ABSENT


@_add("validate", NamedFormat, str, cost=lambda _a, text: max(1, size(text)))
def _validate(a: NamedFormat, text: str) -> Optional:
    faults = a.check(text)
    return Optional(list(faults)) if faults else ABSENT


def _register(name: str) -> None:
    _add(f"format.{name}")(lambda: NamedFormat(name))


for _name in CHECKS:
    _register(_name)
