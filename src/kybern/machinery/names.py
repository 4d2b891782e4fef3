"""Rules for names of every sort: one predicate a rule, answering with upstream's messages ([] means valid).

Read by labels, validation and the registry's naming. Source: "Object Names and IDs" and "Labels and Selectors" in the
Kubernetes documentation; the regular expressions shown in messages are those the API server prints.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from typing import Protocol

LABEL_LENGTH = 63
SUBDOMAIN_LENGTH = 253

_LABEL = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_SUBDOMAIN = rf"{_LABEL}(\.{_LABEL})*"
_RELAXED = r"_?[a-z0-9]([-_a-z0-9]*[a-z0-9])?(\._?[a-z0-9]([-_a-z0-9]*[a-z0-9])?)*"
_LABEL_1035 = r"[a-z]([-a-z0-9]*[a-z0-9])?"
_QUALIFIED = r"([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]"
_VALUE = rf"({_QUALIFIED})?"
_CONFIG_KEY = r"[-._a-zA-Z0-9]+"
_C_IDENTIFIER = r"[A-Za-z_][A-Za-z0-9_]*"

LABEL_MESSAGE = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end "
    f"with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '{_LABEL}')"
)
SUBDOMAIN_MESSAGE = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start "
    f"and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '{_SUBDOMAIN}')"
)
RELAXED_MESSAGE = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '_', '-' or '.', and must "
    "start and end with an alphanumeric character "
    f"(e.g. 'example.com', regex used for validation is '{_RELAXED}')"
)
LABEL_1035_MESSAGE = (
    "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, "
    "and end with an alphanumeric character "
    f"(e.g. 'my-name',  or 'abc-123', regex used for validation is '{_LABEL_1035}')"
)
WILDCARD_MESSAGE = (
    "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must consist of "
    "lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character "
    rf"(e.g. '*.example.com', regex used for validation is '\*\.{_SUBDOMAIN}')"
)
_QUALIFIED_MESSAGE = (
    "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character "
    f"(e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '{_QUALIFIED}')"
)
_KEY_MESSAGE = (
    f"a valid label key {_QUALIFIED_MESSAGE} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
)
VALUE_MESSAGE = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and "
    "end with an alphanumeric character "
    f"(e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '{_VALUE}')"
)
CONFIG_KEY_MESSAGE = (
    "a valid config key must consist of alphanumeric characters, '-', '_' or '.' "
    f"(e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '{_CONFIG_KEY}')"
)
C_IDENTIFIER_MESSAGE = (
    "a valid C identifier must start with alphabetic character or '_', followed by a string of alphanumeric characters "
    f"or '_' (e.g. 'my_name',  or 'MY_NAME',  or 'MyName', regex used for validation is '{_C_IDENTIFIER}')"
)
ENV_MESSAGE = "a valid environment variable name must consist only of printable ASCII characters other than '='"

_is_label = re.compile(_LABEL).fullmatch
_is_subdomain = re.compile(_SUBDOMAIN).fullmatch
_is_relaxed = re.compile(_RELAXED).fullmatch
_is_label_1035 = re.compile(_LABEL_1035).fullmatch
_is_wildcard = re.compile(rf"\*\.{_SUBDOMAIN}").fullmatch
_is_qualified = re.compile(_QUALIFIED).fullmatch
_is_value = re.compile(_VALUE).fullmatch
_is_config_key = re.compile(_CONFIG_KEY).fullmatch
_is_c_identifier = re.compile(_C_IDENTIFIER).fullmatch
_is_env_name = re.compile(r"[ -<>-~]+").fullmatch


def too_many_characters(limit: int) -> str:
    return f"must be no more than {limit} characters"


def too_many_bytes(limit: int) -> str:
    return f"must be no more than {limit} bytes"


def _bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


@functools.lru_cache(maxsize=8192)
def check_label(text: str) -> tuple[str, ...]:
    """RFC 1123 label: names of namespaces, services, containers."""
    if _bytes(text) <= LABEL_LENGTH and _is_label(text):
        return ()
    found = [too_many_characters(LABEL_LENGTH)] if _bytes(text) > LABEL_LENGTH else []
    if not _is_label(text):
        found.append("must not contain dots" if _is_subdomain(text) else LABEL_MESSAGE)
    return tuple(found)


@functools.lru_cache(maxsize=8192)
def check_subdomain(text: str) -> tuple[str, ...]:
    """RFC 1123 subdomain: names of most objects."""
    found = [too_many_characters(SUBDOMAIN_LENGTH)] if _bytes(text) > SUBDOMAIN_LENGTH else []
    if not _is_subdomain(text):
        found.append(SUBDOMAIN_MESSAGE)
    return tuple(found)


def check_relaxed_subdomain(text: str) -> tuple[str, ...]:
    """A subdomain that may have underscores: DNS search paths."""
    found = [too_many_characters(SUBDOMAIN_LENGTH)] if _bytes(text) > SUBDOMAIN_LENGTH else []
    if not _is_relaxed(text):
        found.append(RELAXED_MESSAGE)
    return tuple(found)


def check_label_1035(text: str) -> tuple[str, ...]:
    """RFC 1035 label: starts with a letter."""
    found = [too_many_characters(LABEL_LENGTH)] if _bytes(text) > LABEL_LENGTH else []
    if not _is_label_1035(text):
        found.append(LABEL_1035_MESSAGE)
    return tuple(found)


def check_wildcard_subdomain(text: str) -> tuple[str, ...]:
    """`*.example.com`."""
    found = [too_many_characters(SUBDOMAIN_LENGTH)] if _bytes(text) > SUBDOMAIN_LENGTH else []
    if not _is_wildcard(text):
        found.append(WILDCARD_MESSAGE)
    return tuple(found)


@functools.lru_cache(maxsize=8192)
def check_qualified(text: str) -> tuple[str, ...]:
    """`name` or `prefix.dns/name`: keys of labels, annotations, resources, taints, conditions."""
    prefix, slash, name = text.partition("/")
    found: list[str] = []
    if not slash:
        name = text
    elif "/" in name:
        return (_KEY_MESSAGE,)
    elif not prefix:
        found.append("prefix part must be non-empty")
    else:
        found += _prefix_faults(prefix)
    if not name:
        found.append("name part must be non-empty")
    elif _bytes(name) > LABEL_LENGTH:
        found.append(f"name part {too_many_bytes(LABEL_LENGTH)}")
    if not _is_qualified(name):
        found.append(f"name part {_QUALIFIED_MESSAGE}")
    return tuple(found)


def _prefix_faults(prefix: str) -> list[str]:
    found = [f"prefix part {too_many_bytes(SUBDOMAIN_LENGTH)}"] if _bytes(prefix) > SUBDOMAIN_LENGTH else []
    if not _is_subdomain(prefix):
        found.append(f"prefix part {SUBDOMAIN_MESSAGE}")
    return found


@functools.lru_cache(maxsize=8192)
def check_label_value(text: str) -> tuple[str, ...]:
    """At most 63 bytes; may be empty."""
    found = [too_many_bytes(LABEL_LENGTH)] if _bytes(text) > LABEL_LENGTH else []
    if not _is_value(text):
        found.append(VALUE_MESSAGE)
    return tuple(found)


@functools.lru_cache(maxsize=4096)
def check_env_name(text: str) -> tuple[str, ...]:
    """Printable ASCII but '='."""
    return () if _is_env_name(text) else (ENV_MESSAGE,)


def check_config_key(text: str) -> tuple[str, ...]:
    """A key of a ConfigMap or Secret: usable as a file name."""
    found = [too_many_characters(SUBDOMAIN_LENGTH)] if _bytes(text) > SUBDOMAIN_LENGTH else []
    if not _is_config_key(text):
        found.append(CONFIG_KEY_MESSAGE)
    if text in (".", ".."):
        found.append(f"must not be '{text}'")
    elif text.startswith(".."):
        found.append("must not start with '..'")
    return tuple(found)


def check_c_identifier(text: str) -> tuple[str, ...]:
    return () if _is_c_identifier(text) else (C_IDENTIFIER_MESSAGE,)


def check_path_segment(text: str) -> tuple[str, ...]:
    """Anything that fits between two slashes of a URL: names of RBAC objects."""
    if text in (".", ".."):
        return (f"may not be '{text}'",)
    return tuple(f"may not contain '{c}'" for c in ("/", "%") if c in text)


@functools.lru_cache(maxsize=4096)
def check_port_name(text: str) -> tuple[str, ...]:
    """IANA_SVC_NAME of RFC 6335, lower case: names of container ports."""
    found: list[str] = []
    if _bytes(text) > 15:
        found.append(too_many_characters(15))
    if not re.fullmatch(r"[-a-z0-9]+", text):
        found.append("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)")
    if not re.search(r"[a-z]", text):
        found.append("must contain at least one letter (a-z)")
    if "--" in text:
        found.append("must not contain consecutive hyphens")
    if text and (text[0] == "-" or text[-1] == "-"):
        found.append("must not begin or end with a hyphen")
    return tuple(found)


def mask_trailing_dash(text: str) -> str:
    """What a generateName is checked as: its last dash will be followed by a suffix."""
    return text[:-1] + "a" if len(text) > 1 and text.endswith("-") else text


class Dice(Protocol):
    """The part of random.Random that naming uses."""

    def choice(self, seq: Sequence[str]) -> str: ...


# No vowels and no look-alikes, so that no word is spelled by chance.
_SUFFIX_LETTERS = "bcdfghjklmnpqrstvwxz2456789"
_SUFFIX_LENGTH = 5
_LONGEST_PREFIX = 63 - _SUFFIX_LENGTH


def generate(prefix: str, dice: Dice) -> str:
    """The name of an object created with generateName: the prefix (cut to 58) and five random characters."""
    return prefix[:_LONGEST_PREFIX] + "".join(dice.choice(_SUFFIX_LETTERS) for _ in range(_SUFFIX_LENGTH))
