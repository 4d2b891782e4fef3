"""What dynamic resources share: names of drivers, pools and attributes, parameters, expressions about a device."""

from __future__ import annotations

import functools
import re
from typing import Any

from kybern.api import codec
from kybern.machinery import cel, names
from kybern.machinery.cel import types
from kybern.machinery.status import invalid, required, too_long
from kybern.machinery.validation import rules
from kybern.machinery.validation.rules import Errors

EFFECTS = ("NoExecute", "NoSchedule", "None")
_DRIVER_LENGTH = 63
_IDENTIFIER_LENGTH = 32
_POOL_LENGTH = 253
_OBJECT_LENGTH = 10 * 1024
_EXPRESSION_LENGTH = 10 * 1024
_UID = re.compile(r"[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}").fullmatch
NOT_AN_INTERFACE_ADDRESS = "must be a valid address in CIDR form, (e.g. 10.9.8.7/24 or 2001:db8::1/64)"


def check_driver(name: str, path: str, errors: Errors) -> None:
    if not name:
        errors.append(required(path))
        return
    if len(name.encode()) > _DRIVER_LENGTH:
        errors.append(too_long(path, _DRIVER_LENGTH))
    rules.check_rule(name, path, names.check_subdomain, errors)


def check_pool(name: str, path: str, errors: Errors) -> None:
    """Subdomains with slashes between them."""
    if not name:
        errors.append(required(path))
        return
    if len(name.encode()) > _POOL_LENGTH:
        errors.append(too_long(path, _POOL_LENGTH))
    for part in name.split("/"):
        rules.check_rule(part, path, names.check_subdomain, errors)


def check_qualified(name: str, path: str, errors: Errors) -> None:
    """An attribute or a capacity: a C identifier, of the driver or of a domain."""
    domain, slash, identifier = name.partition("/")
    if not slash:
        _check_identifier(name, path, errors)
        return
    if "/" in identifier:  # upstream looks no further
        return
    if not domain:
        errors.append(invalid(path, "", "the domain must not be empty"))
    else:
        check_driver(domain, path, errors)
    if not identifier:
        errors.append(invalid(path, "", "the name must not be empty"))
    else:
        _check_identifier(identifier, path, errors)


def _check_identifier(name: str, path: str, errors: Errors) -> None:
    if len(name.encode()) > _IDENTIFIER_LENGTH:
        errors.append(too_long(path, _IDENTIFIER_LENGTH))
    rules.check_rule(name, path, names.check_c_identifier, errors)


def check_fully_qualified(name: str, path: str, errors: Errors) -> None:
    check_qualified(name, path, errors)
    if name and "/" not in name:
        errors.append(invalid(path, name, "a fully qualified name must be a domain and a name separated by a slash"))


def check_object(value: Any, path: str, errors: Errors) -> None:
    """Parameters that only a driver understands."""
    if value is None:
        errors.append(required(path))
    elif len(codec.encode(value)) > _OBJECT_LENGTH:
        errors.append(too_long(path, _OBJECT_LENGTH))
    elif not isinstance(value, dict):
        errors.append(invalid(path, "<value omitted>", "must be a valid JSON object"))


def check_uid(text: str, path: str, errors: Errors) -> None:
    if len(text) != 36:
        errors.append(invalid(path, text, f"error validating uid: invalid UUID length: {len(text)}"))
    elif not _UID(text):
        errors.append(invalid(path, text, "error validating uid: invalid UUID format"))


def interface_address_faults(text: str) -> tuple[str, ...]:
    """An address with the length of its network's prefix: host bits may be set."""
    address = text.partition("/")[0]
    network = rules.parse_cidr(text)
    if network is None:
        return (NOT_AN_INTERFACE_ADDRESS,)
    fault = rules.canonical_ip_fault(address)
    usual = f"{rules.parse_ip(address)}/{network.prefixlen}"
    return (fault,) if fault else () if text == usual else (f'must be in canonical form ("{usual}")',)


@functools.cache
def _environment() -> cel.Environment:
    """`device`, as selectors know it."""
    by_domain = types.map_of(types.STRING, types.map_of(types.STRING, types.DYN))
    fields = {
        "driver": types.ObjectField(types.STRING, "driver"),
        "attributes": types.ObjectField(by_domain, "attributes"),
        "capacity": types.ObjectField(by_domain, "capacity"),
        "allowMultipleAllocations": types.ObjectField(types.BOOL, "allowMultipleAllocations"),
    }
    device = types.ObjectType("DRADevice", fields)
    return cel.Environment({"device": device.type}, {"DRADevice": device})


@functools.lru_cache(maxsize=512)
def _expression_fault(text: str) -> str:
    try:
        program = cel.compile(text, _environment())
    except cel.CelError as error:
        return f"compilation failed: {error}"
    return "" if program.type in (types.BOOL, types.DYN) else "must evaluate to bool"


def check_expression(text: str, path: str, errors: Errors) -> None:
    if len(text.encode()) > _EXPRESSION_LENGTH:
        errors.append(too_long(path, _EXPRESSION_LENGTH))
        return
    fault = _expression_fault(text)
    if fault:
        errors.append(invalid(path, text, fault))
