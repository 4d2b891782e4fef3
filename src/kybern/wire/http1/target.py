"""Request targets: percent-decoding of paths and queries. Pure; used by head.

Promise: decoding never adds a slash, a NUL or invalid UTF-8. An encoded slash stays `%2F` in the path, so
that one segment on the wire is one segment to every later reader.
"""

from __future__ import annotations

_HEX = {f"{n:02x}": n for n in range(256)}


class BadTarget(ValueError):
    """The target cannot be decoded; the text says why."""


def split_target(target: str) -> tuple[str, dict[str, list[str]]]:
    """Path and query of a target in origin form. Raises BadTarget."""
    path, mark, query = target.partition("?")
    if "%" in path:
        path = _decode(path, keep_slash=True)
    return path, parse_query(query) if mark else {}


def parse_query(text: str) -> dict[str, list[str]]:
    """`a=1&b=2&a=3` by name; a name without `=` has the value "". Raises BadTarget."""
    found: dict[str, list[str]] = {}
    for pair in text.split("&"):
        if not pair:
            continue
        name, _, value = pair.partition("=")
        name, value = _decode_form(name), _decode_form(value)
        if name in found:
            found[name].append(value)
        else:
            found[name] = [value]
    return found


def _decode_form(text: str) -> str:
    if "+" in text:
        text = text.replace("+", " ")
    return _decode(text, keep_slash=False) if "%" in text else text


def _decode(text: str, *, keep_slash: bool) -> str:
    first, *rest = text.split("%")
    out = bytearray(first.encode())
    for part in rest:
        value = _HEX.get(part[:2].lower())
        if value is None:
            raise BadTarget(f'invalid URL escape "%{part[:2]}"')
        if value == 0:
            raise BadTarget("NUL in URL")
        if value == 0x2F and keep_slash:
            out += b"%2F"
        else:
            out.append(value)
        out += part[2:].encode()
    try:
        return out.decode()
    except UnicodeDecodeError:
        raise BadTarget("URL is not valid UTF-8") from None
