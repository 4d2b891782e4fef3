"""Links of proxied answers: what points at the backend's root is made to point through the proxy. Pure.

Used by forward for `Location` and for HTML, as kube-apiserver does, so that plain web interfaces work behind
`.../proxy/`. Only absolute paths (and URLs of the backend itself) change.
"""

from __future__ import annotations

import re
import urllib.parse

# Attributes that hold URLs, in any element.
_ATTRIBUTE = re.compile(
    rb"""(?i)(\s(?:href|src|action|cite|codebase|background|data|formaction|icon|longdesc|manifest|poster|profile|usemap)
    \s*=\s*)("[^"]*"|'[^']*'|[^\s"'>]+)""",
    re.VERBOSE,
)
_START = re.compile(rb"<[a-zA-Z]")
_STOP = re.compile(rb"[>\"']")
_MAX_CARRY = 8 * 1024  # a tag longer than this is passed as it is


def rewrite_url(url: str, prefix: str, authority: str) -> str:
    """`/x` becomes `<prefix>/x`; so does `http://<authority>/x`. Others stay."""
    try:
        parts = urllib.parse.urlsplit(url)
    except ValueError:
        return url
    if parts.netloc and parts.netloc != authority:
        return url
    if parts.scheme not in ("", "http", "https") or not parts.path.startswith("/"):
        return url
    if parts.path == prefix or parts.path.startswith(prefix + "/"):
        return url
    return urllib.parse.urlunsplit(("", "", prefix + parts.path, parts.query, parts.fragment))


class HtmlRewriter:
    """Feed pieces of a page in order; tags cut in two are put together first."""

    def __init__(self, prefix: str, authority: str) -> None:
        self._prefix = prefix
        self._authority = authority
        self._carry = b""

    def feed(self, data: bytes) -> bytes:
        data, self._carry = self._carry + data, b""
        out: list[bytes] = []
        done = 0  # everything before it is in `out`
        while True:
            start = _find_tag(data, done)
            if start < 0:
                break
            end = _end_of_tag(data, start)
            if end < 0:
                if len(data) - start <= _MAX_CARRY:
                    self._carry = data[start:]
                    data = data[:start]
                break
            out += [data[done:start], _ATTRIBUTE.sub(self._attribute, data[start:end])]
            done = end
        return b"".join([*out, data[done:]])

    def finish(self) -> bytes:
        rest, self._carry = self._carry, b""
        return rest

    def _attribute(self, found: re.Match[bytes]) -> bytes:
        value = found[2]
        quote = value[:1] if value[:1] in (b'"', b"'") else b""
        text = value[1:-1] if quote else value
        try:
            changed = rewrite_url(text.decode(), self._prefix, self._authority)
        except UnicodeDecodeError:
            return found[0]
        return found[1] + quote + changed.encode() + quote


def _find_tag(data: bytes, start: int) -> int:
    """Where the next tag begins, or may begin (a `<` as the last byte); -1: nowhere."""
    found = _START.search(data, start)
    if found is not None:
        return found.start()
    return len(data) - 1 if data.endswith(b"<") else -1


def _end_of_tag(data: bytes, start: int) -> int:
    """Behind the `>` of the tag at `start`, quoted ones not counted; -1: not there yet. Looks at each byte once."""
    position = start + 1
    while (found := _STOP.search(data, position)) is not None:
        position = found.end()
        if found[0] == b">":
            return position
        position = data.find(found[0], position) + 1
        if position == 0:
            break
    return -1
