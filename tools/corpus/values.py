"""Values to put into one field: other valid ones, and ones that break a rule. Asked by generate.

What a field may hold is guessed from its schema, from what seeds put there, and from the words of its description;
whether a guess is right does not matter: the reference server says what is valid.
"""

from __future__ import annotations

import re
from typing import Any

from tools.corpus import seeds

Labelled = tuple[str, Any]


class _Gone:
    """Marks a field to be left out."""

    def __repr__(self) -> str:
        return "GONE"


GONE = _Gone()

_LONG = 254
_TEXTS: list[Labelled] = [
    ("empty", ""), ("bad-name", "Bad_Name!"), ("dotted", "a.b"), ("slashed", "a.b/c"), ("long-label", "x" * 64),
    ("long-name", "x" * _LONG), ("dashed", "-a"), ("upper", "UPPER"), ("digits", "123"), ("absolute", "/a/../b"),
    ("path", "a/../b"), ("spaced", "a b"), ("colon", "a:b"), ("unicode", "é"), ("star", "*"), ("plain", "abc"),
]  # fmt: skip
_ADDRESSES: list[Labelled] = [
    ("ip", "10.9.8.7"), ("ip6", "2001:db8::1"), ("zeros", "010.1.2.3"), ("mapped", "::ffff:1.2.3.4"),
    ("no-ip", "1.2.3.400"), ("loopback", "127.0.0.1"), ("unspecified", "0.0.0.0"), ("link-local", "169.254.1.1"),
    ("multicast", "224.0.0.1"), ("cidr", "10.9.0.0/16"), ("host-bits", "10.9.8.7/16"), ("cidr6", "2001:db8::/64"),
    ("spelling", "2001:DB8:0::1"), ("bad-cidr", "10.9.0.0/33"),
]  # fmt: skip
_QUANTITIES: list[Labelled] = [
    ("zero", "0"), ("negative", "-1"), ("fraction", "1.5"), ("milli", "100m"), ("giga", "3Gi"), ("word", "abc"),
    ("huge", "9223372036854775808"), ("tiny", "1n"), ("empty", ""), ("exponent", "1e3"), ("number", 3),
]  # fmt: skip
_NUMBERS: list[Labelled] = [
    ("zero", 0), ("one", 1), ("negative", -1), ("two", 2), ("hundred", 101), ("port", 65536), ("large", 2**31 - 1),
]  # fmt: skip
_EITHER: list[Labelled] = [
    ("zero", 0), ("negative", -1), ("port", 65536), ("percent", "10%"), ("all", "100%"), ("beyond", "110%"),
    ("nothing", "0%"), ("minus", "-5%"), ("word", "abc"), ("digits", "5"), ("bad", "a_b"), ("long", "a" * 16),
]  # fmt: skip
_TIMES: list[Labelled] = [("later", "2027-05-06T07:08:09Z"), ("no-time", "yesterday"), ("empty", "")]
_KEYS: list[Labelled] = [
    ("bad-key", "bad key!"), ("long-key", "k" * 64), ("slashes", "a/b/c"), ("empty-key", ""), ("good-key", "a.b/k"),
    ("dot-key", ".."), ("resource", "hugepages-3Mi"), ("cpu", "cpu"), ("storage", "storage"),
]  # fmt: skip
_SIZES = (9, 17, 33, 65, 130)
_WORD = re.compile(r'"([A-Za-z][A-Za-z0-9.-]*)"|\b([A-Z][a-z]+[A-Za-z]*)\b|`([A-Za-z][A-Za-z0-9]*)`')
_ADDRESS_FIELD = re.compile(r"ip|cidr|address|nameserver|ranges|except|host$", re.I)


def others(definition: str, field: str, described: Any, value: Any) -> list[Labelled]:
    """What the field holds in other seeds."""
    found = [v for v in seeds.examples().get((definition, field), ()) if v != value]
    return [(f"example-{i}", v) for i, v in enumerate(found[:12])]


def broken(definition: str, field: str, described: Any, value: Any) -> list[Labelled]:
    """Values that break something, most likely; GONE for a field to be left out."""
    found: list[Labelled] = [("gone", GONE)]
    reference = seeds.reference_of(described)
    kinds = _types(described)
    if reference.endswith(".Quantity"):
        return found + _QUANTITIES
    if reference.endswith(".IntOrString"):
        return found + _EITHER
    if reference.endswith((".Time", ".MicroTime")) or described.get("format") == "date-time":
        return found + _TIMES
    if isinstance(value, dict):
        return [*found, ("bare", {}), *_broken_map(described, value)]
    if isinstance(value, list):
        return found + _broken_list(value)
    if "boolean" in kinds or isinstance(value, bool):
        return [*found, ("flipped", not value), ("quoted", "true")]
    if "integer" in kinds or "number" in kinds:
        near = [("more", value + 1), ("less", value - 1)] if isinstance(value, int) else []
        return [*found, *_NUMBERS, *near, ("quoted", "5")]
    if "string" in kinds or isinstance(value, str):
        return found + _broken_text(field, described, value)
    return found


def _broken_text(field: str, described: Any, value: Any) -> list[Labelled]:
    found = list(_TEXTS)
    if _ADDRESS_FIELD.search(field):
        found += _ADDRESSES
    if described.get("format") == "byte":
        found += [("base64", "AAAA"), ("no-base64", "%%%")]
    description = described.get("description", "")
    words = dict.fromkeys("".join(match) for match in _WORD.findall(description))
    looks_like_choice = isinstance(value, str) and value[:1].isupper()
    if looks_like_choice or "One of" in description or "one of" in description:
        found += [(f"word-{word}", word) for word in list(words)[:14] if word != value]
        if isinstance(value, str):
            found += [("lower", value.lower())]
    if isinstance(value, str) and value:
        found += [("suffixed", value + "x"), ("doubled", value * 2)]
    return [*found, ("number", 5)]


def _broken_list(value: list[Any]) -> list[Labelled]:
    found: list[Labelled] = [("none", [])]
    if value:
        found += [("twice", [*value, value[0]]), ("first-twice", [value[0], *value]), ("null-item", [*value, None])]
        found += [(f"many-{n}", [value[-1]] * n) for n in _SIZES]
        if all(isinstance(item, str) for item in value):
            found += [(f"with-{label}", [*value, text]) for label, text in (*_TEXTS, *_ADDRESSES)]
            found += [(f"many-different-{n}", [f"{value[0]}{i}" for i in range(n)]) for n in _SIZES]
        if isinstance(value[0], dict):
            found += [("bare-item", [*value, {}])]
            if isinstance(value[0].get("name"), str):
                named = value[0]["name"]
                found += [(f"many-named-{n}", [{**value[0], "name": f"{named}{i}"} for i in range(n)]) for n in _SIZES]
                found += [("one-more", [*value, {**value[0], "name": "added"}])]
    if len(value) > 1:
        found += [("shorter", value[:-1]), ("without-first", value[1:]), ("reversed", value[::-1])]
    return [*found, ("no-list", "a")]


def _broken_map(described: Any, value: dict[str, Any]) -> list[Labelled]:
    inner = described.get("additionalProperties")
    if not isinstance(inner, dict):
        return [("no-map", "a")]
    sample = next(iter(value.values()), "a")
    found: list[Labelled] = [(f"with-{label}", {**value, key: sample}) for label, key in _KEYS]
    if seeds.reference_of(inner).endswith(".Quantity"):
        found += [(f"value-{label}", dict.fromkeys(value, text)) for label, text in _QUANTITIES]
    elif isinstance(sample, str):
        found += [(f"value-{label}", {**value, next(iter(value), "a"): text}) for label, text in _TEXTS]
        found += [(f"many-{n}", {f"k{i}": sample for i in range(n)}) for n in _SIZES]
    return [*found, ("no-map", "a")]


def _types(described: Any) -> tuple[str, ...]:
    kinds = described.get("type", ())
    return (kinds,) if isinstance(kinds, str) else tuple(kinds)


def made(definition: str, field: str, described: Any, depth: int = 0) -> list[Labelled]:
    """Values for a field that an object lacks: those of seeds; made up where no seed has the field."""
    known = others(definition, field, described, None)
    if known:
        return known
    reference = seeds.reference_of(described)
    if reference and depth < 3 and seeds.properties(reference):
        inner = {}
        for name, schema in seeds.properties(reference).items():
            options = made(reference, name, schema, depth + 1)
            if options:
                inner[name] = options[0][1]
        return [("made", inner)] if inner else []
    kinds = _types(described)
    if "boolean" in kinds:
        return [("true", True), ("false", False)]
    if "integer" in kinds:
        return [("one", 1)]
    if "string" in kinds:
        return [("text", "a")]
    return []
