"""What a family of kinds tells validation, and the checks that many kinds share."""

from __future__ import annotations

import functools
import ipaddress
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kybern.api import codec
from kybern.machinery import names
from kybern.machinery.status import FieldError, invalid, not_supported, required, too_long
from kybern.pausing import pausing

Errors = list[FieldError]
Check = Callable[[str], tuple[str, ...]]

IMMUTABLE = "field is immutable"


@dataclass(frozen=True, slots=True)
class Rules:
    """Checks beside metadata. Without `update`, an update is checked like a new object."""

    create: Callable[[Any, Errors], None] | None = None
    update: Callable[[Any, Any, Errors], None] | None = None
    status: Callable[[Any, Any, Errors], None] | None = None


def check_name(value: str | None, path: str, rule: Check, errors: Errors, detail: str = "") -> None:
    """Required, and by `rule`."""
    if not value:
        errors.append(required(path, detail))
        return
    for message in rule(value):
        errors.append(invalid(path, value, message))


def check_optional(value: str | None, path: str, rule: Check, errors: Errors) -> None:
    """By `rule`, where there is a value."""
    if value:
        for message in rule(value):
            errors.append(invalid(path, value, message))


def check_rule(value: str, path: str, rule: Check, errors: Errors) -> None:
    """By `rule`, also when empty."""
    for message in rule(value):
        errors.append(invalid(path, value, message))


def check_required(value: Any, path: str, errors: Errors, detail: str = "") -> bool:
    if value:
        return True
    errors.append(required(path, detail))
    return False


def check_choice(value: str | None, path: str, choices: Sequence[str], errors: Errors) -> None:
    """One of `choices`, listed in the order upstream lists them; empty is unsupported like any other."""
    if value not in choices:
        errors.append(not_supported(path, value or "", choices))


def check_not_negative(value: int | None, path: str, errors: Errors) -> None:
    if value is not None and value < 0:
        errors.append(invalid(path, value, "must be greater than or equal to 0"))


def in_range(low: int, high: int) -> str:
    return f"must be between {low} and {high}, inclusive"


def check_range(value: int | None, path: str, low: int, high: int, errors: Errors) -> None:
    if value is not None and not low <= value <= high:
        errors.append(invalid(path, value, in_range(low, high)))


def check_port(value: int, path: str, errors: Errors) -> None:
    check_range(value, path, 1, 65535, errors)


def check_port_or_name(value: int | str | None, path: str, errors: Errors) -> None:
    """A number, or the name of a container port."""
    if isinstance(value, str):
        check_rule(value, path, names.check_port_name, errors)
    else:
        check_port(value or 0, path, errors)


NOT_AN_IP = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"
NOT_A_CIDR = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"


_strip_zeros = functools.partial(re.compile(r"(^|[.:])0+(?=[0-9]+(\.|$))").sub, r"\1")


def parse_ip(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """None for what is no address; zones are none, leading zeros are ignored."""
    if "%" in text:
        return None
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        pass
    if "." in text:
        try:
            return ipaddress.ip_address(_strip_zeros(text))
        except ValueError:
            pass
    return None


def ip_fault(text: str) -> str:
    """What is wrong with an address that clients newly write; "" if nothing is."""
    address = parse_ip(text)
    if address is None:
        return NOT_AN_IP
    if "." in text:
        if _strip_zeros(text) != text:
            return "must not have leading 0s"
        if address.version == 6 and address.ipv4_mapped is not None:
            return "must not be an IPv4-mapped IPv6 address"
    return ""


def canonical_ip_fault(text: str) -> str:
    """Like `ip_fault`; only the usual spelling is right."""
    return ip_fault(text) or _spelling_fault(text, str(parse_ip(text)))


def _spelling_fault(text: str, usual: str) -> str:
    return "" if text == usual else f'must be in canonical form ("{usual}")'


def parse_cidr(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    """None for what is no CIDR; host bits may be set."""
    address, slash, bits = text.partition("/")
    if not slash or not bits.isdecimal() or not bits.isascii() or parse_ip(address) is None:
        return None
    try:
        return ipaddress.ip_network(f"{parse_ip(address)}/{bits}", strict=False)
    except ValueError:
        return None


def cidr_fault(text: str) -> str:
    """What is wrong with a CIDR that clients newly write; "" if nothing is."""
    network = parse_cidr(text)
    if network is None:
        return NOT_A_CIDR
    address, _, bits = text.partition("/")
    if ("." in address and _strip_zeros(address) != address) or (len(bits) > 1 and bits[0] == "0"):
        return "must not have leading 0s in IP or prefix length"
    parsed = parse_ip(address)
    if "." in address and parsed is not None and parsed.version == 6 and parsed.ipv4_mapped is not None:
        return "must not have an IPv4-mapped IPv6 address"
    if parsed != network.network_address:
        return "must not have bits set beyond the prefix length"
    return ""


def canonical_cidr_fault(text: str) -> str:
    """Like `cidr_fault`; only the usual spelling is right."""
    return cidr_fault(text) or _spelling_fault(text, str(parse_cidr(text)))


def check_ip(value: str, path: str, errors: Errors) -> None:
    fault = ip_fault(value)
    if fault:
        errors.append(invalid(path, value, fault))


def check_cidr(value: str, path: str, errors: Errors) -> None:
    fault = cidr_fault(value)
    if fault:
        errors.append(invalid(path, value, fault))


def check_labels(labels: Mapping[str, str], path: str, errors: Errors) -> None:
    """Keys and values of labels; errors name the map, not the key, as upstream's do."""
    for key, value in pausing(labels.items()):
        for message in names.check_qualified(key):
            errors.append(invalid(path, key, message))
        if value:
            for message in names.check_label_value(value):
                errors.append(invalid(path, value, message))


ANNOTATIONS_LIMIT = 256 * 1024


def check_annotations(annotations: Mapping[str, str], path: str, errors: Errors) -> None:
    total = 0
    for key, value in pausing(annotations.items()):
        for message in names.check_qualified(key.lower()):
            errors.append(invalid(path, key, message))
        total += _size(key) + _size(value)
    if total > ANNOTATIONS_LIMIT:
        errors.append(too_long(path, ANNOTATIONS_LIMIT))


def _size(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


# Their false is no different from nothing; elsewhere it may be.
_FLAGS = frozenset({"hostNetwork", "hostPID", "hostIPC", "stdin", "stdinOnce", "tty", "readOnly"})
_EMPTY: tuple[Any, ...] = (None, "", [])


def is_same(new: Any, old: Any) -> bool:
    """Equal but for what is empty in one and absent in the other: clients write either."""
    return new == old or _is_same(codec.to_json(new), codec.to_json(old))


def _is_same(new: Any, old: Any) -> bool:
    if isinstance(new, dict) and isinstance(old, dict):
        return all(
            _is_same(new.get(key), old.get(key)) or (key in _FLAGS and not new.get(key) and not old.get(key))
            for key in {*new, *old}
        )
    if isinstance(new, list) and isinstance(old, list):
        return len(new) == len(old) and all(map(_is_same, new, old))
    return bool(new == old or (new in _EMPTY and old in _EMPTY))


def check_immutable(new: Any, old: Any, path: str, errors: Errors, message: str = IMMUTABLE) -> bool:
    """True if unchanged."""
    if new == old or is_same(new, old):
        return True
    errors.append(invalid(path, new, message))
    return False


def only_one(present: Iterable[str]) -> list[str]:
    """The names after the first: those that may not be there as well."""
    return list(present)[1:]
