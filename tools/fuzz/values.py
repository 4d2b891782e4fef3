"""Values that have broken servers before, and how to break an object with them. Everything by the dice given."""

from __future__ import annotations

import random
from typing import Any

TEXTS = (
    *("", " ", "a", "A", "-", ".", "..", "/", "\\", "%", "%00", "\x00", "\n", "\t", "\r\nX: y", "\u202e", "\ufeff"),
    *("é", "💩", "a" * 64, "a" * 254, "a" * 70_000, "0", "-1", "1e1000", "NaN", "null", "true", "~", "{}", "[]", "*"),
    *("1Ki", "1e", "1E400", "9" * 40, "0x10", "1.5.5", "-0", "1n", "1.0000000001", "999999999999999999999Ei"),
    *("2026-02-30T00:00:00Z", "0000-00-00T00:00:00Z", "2026-01-01T00:00:00.999999999999Z", "1970-01-01T00:00:00+99:99"),
    *("(a+)+$", "[", "^(((((((((a*)*)*)*)*)*)*)*)*$", "\\", "(?P<a>", "{{", "$(X)", "${X}", "$$", "`id`", "'; --"),
    *("10.0.0.0/8", "10.0.0.0/33", "::/0", "::ffff:1.2.3.4", "1.2.3", "fe80::1%eth0", "256.1.1.1", "010.1.1.1"),
    *("https://[", "http://a:99999", "file:///etc/passwd", "a=b,c", "a in (b", "!a", "a==b", "system:masters"),
    *("self.all(x, x.all(y, y.all(z, true)))", "1/0", "object.x", "'a'.repeat(9)", "[1,2,3].map(x, [x,x])"),
)  # fmt: skip
NUMBERS = (
    0,
    1,
    -1,
    2**31 - 1,
    2**31,
    -(2**31) - 1,
    2**53,
    2**63 - 1,
    2**63,
    -(2**63) - 1,
    2**64,
    10**40,
    0.5,
    1e308,
    -0.0,
)
NAMES = ("a", "default", "kubernetes", "nope", "n1", "robot", "kube-system", "system:basic-user")
KEYS = (
    "metadata",
    "spec",
    "status",
    "kind",
    "apiVersion",
    "",
    "a/b",
    "a.b",
    "\x00",
    "💩",
    "__class__",
    "$ref",
    "items",
)


def any_value(dice: random.Random, depth: int = 0) -> Any:
    kind = dice.randrange(9)
    if kind <= 2:
        return dice.choice(TEXTS)
    if kind <= 4:
        return dice.choice(NUMBERS)
    if kind == 5:
        return dice.choice((True, False, None))
    if kind == 6 and depth < 4:
        return [any_value(dice, depth + 1) for _ in range(dice.randrange(4))]
    if kind == 7 and depth < 4:
        return {dice.choice(KEYS): any_value(dice, depth + 1) for _ in range(dice.randrange(4))}
    return dice.choice(([], {}, [[]], [None], {"": None}, [{}]))


def break_value(value: Any, dice: random.Random, changes: int) -> Any:
    """A copy with some places replaced, removed, repeated, or given to another."""
    value = _copy(value)
    for _ in range(changes):
        places = list(_places(value))
        if not places:
            return any_value(dice)
        holder, key = dice.choice(places)
        match dice.randrange(7):
            case 0:
                del holder[key]
            case 1 if isinstance(holder, list):
                holder.extend([holder[key]] * dice.choice((1, 2, 50)))
            case 2 if isinstance(holder, dict):
                holder[dice.choice((*KEYS, *TEXTS[:40]))] = holder.pop(key)
            case 3:
                other, other_key = dice.choice(places)
                if holder is not other and _has(other, other_key):
                    holder[key] = _copy(other[other_key])
            case 4 if isinstance(holder[key], str):
                holder[key] = _break_text(holder[key], dice)
            case 5 if isinstance(holder, dict):
                holder[dice.choice(KEYS)] = any_value(dice)
            case _:
                holder[key] = any_value(dice)
    return value


def _break_text(text: str, dice: random.Random) -> str:
    at = dice.randrange(len(text) + 1)
    return dice.choice((text[:at] + dice.choice(TEXTS) + text[at:], text[:at], text.upper(), text * 2, text[::-1]))


def _has(holder: Any, key: Any) -> bool:
    return key in holder if isinstance(holder, dict) else key < len(holder)


def _places(value: Any, depth: int = 0) -> Any:
    if depth > 30:
        return
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in list(pairs):
        yield value, key
        yield from _places(inner, depth + 1)


def _copy(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _copy(v) for k, v in value.items()}
    return [_copy(v) for v in value] if isinstance(value, list) else value
