"""URLs. Source: "Kubernetes URL library" in the documentation."""

from __future__ import annotations

import re
import urllib.parse
from typing import Any

from kybern.machinery.cel.errors import EvaluationError
from kybern.machinery.cel.functions import Library, traversal
from kybern.machinery.cel.values import Opaque

LIBRARY = Library(
    """
    url(string): kubernetes.URL
    isURL(string): bool
    kubernetes.URL -> getScheme(): string
    kubernetes.URL -> getHost(): string
    kubernetes.URL -> getHostname(): string
    kubernetes.URL -> getPort(): string
    kubernetes.URL -> getEscapedPath(): string
    kubernetes.URL -> getQuery(): map(string, list(string))
    """
)
_add = LIBRARY.add

_SCHEME = re.compile(r"([a-zA-Z][a-zA-Z0-9+.-]*):(.*)\Z", re.DOTALL)
_ESCAPE = re.compile(r"%(?![0-9a-fA-F]{2})")
_HOST_FORBIDDEN = re.compile(r"[ \"<>\\^`{|}%]|[\x00-\x20\x7f]")
# What Go's url.URL.EscapedPath leaves alone when it escapes a path anew.
_PATH_SAFE = "/$&+,;=:@-_.~!*'()"


class URL(Opaque):
    __slots__ = ("host", "path", "query", "scheme")
    cel_type = "kubernetes.URL"

    def __init__(self, scheme: str, host: str, path: str, query: str) -> None:
        self.scheme = scheme
        self.host = host
        self.path = path
        self.query = query

    def equals(self, other: Any) -> bool:
        return (self.scheme, self.host, self.path, self.query) == (other.scheme, other.host, other.path, other.query)


def parse(text: str) -> URL:
    """An absolute URI or an absolute path. Raises ValueError."""
    if not text:
        raise ValueError("empty url")
    if any(c < " " or c == "\x7f" for c in text):
        raise ValueError("net/url: invalid control character in URL")
    scheme, rest = "", text
    match = _SCHEME.match(text)
    if match is not None:
        scheme, rest = match[1].lower(), match[2]
    elif text.startswith(":"):
        raise ValueError("missing protocol scheme")
    rest, _, query = rest.partition("#")[0].partition("?")
    if not rest.startswith("/"):
        if scheme:
            return URL(scheme, "", "", query)  # opaque: mailto:x
        raise ValueError("invalid URI for request")
    host = ""
    if rest.startswith("//") and not (rest.startswith("///") and not scheme):
        authority, slash, path = rest[2:].partition("/")
        host = authority.rpartition("@")[2]
        rest = slash + path
        _check_host(host)
    wrong = _ESCAPE.search(rest)
    if wrong is not None:
        raise ValueError(f'invalid URL escape "{rest[wrong.start() : wrong.start() + 3]}"')
    return URL(scheme, host, rest, query)


def _check_host(host: str) -> None:
    name, port = _split(host)
    if host.startswith("["):
        if "]" not in host:
            raise ValueError("missing ']' in host")
    elif ":" in name:
        raise ValueError(f'invalid port ":{name.partition(":")[2]}" after host')
    elif _HOST_FORBIDDEN.search(name):
        raise ValueError(f'invalid character "{_HOST_FORBIDDEN.search(name)[0]}" in host name')  # type: ignore[index]
    if port and not re.fullmatch(r"[0-9]*", port):
        raise ValueError(f'invalid port ":{port}" after host')


def _split(host: str) -> tuple[str, str]:
    """(name without brackets, port)."""
    if host.startswith("["):
        name, _, rest = host[1:].partition("]")
        return name, rest.removeprefix(":")
    name, colon, port = host.rpartition(":")
    return (name, port) if colon else (host, "")


@_add("url", str, cost=traversal)
def _url(text: str) -> URL:
    try:
        return parse(text)
    except ValueError as error:
        raise EvaluationError(f'URL parse error during conversion from string: parse "{text}": {error}') from None


@_add("isURL", str, cost=traversal)
def _is_url(text: str) -> bool:
    try:
        parse(text)
    except ValueError:
        return False
    return True


_add("getScheme", URL)(lambda a: a.scheme)
_add("getHost", URL)(lambda a: a.host)
_add("getHostname", URL)(lambda a: _split(a.host)[0])
_add("getPort", URL)(lambda a: _split(a.host)[1])


@_add("getEscapedPath", URL)
def _path(a: URL) -> str:
    return (
        urllib.parse.quote(urllib.parse.unquote(a.path), safe=_PATH_SAFE)
        if not a.path.isascii() or " " in a.path
        else a.path
    )


@_add("getQuery", URL)
def _query(a: URL) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for part in a.query.split("&"):
        if not part or ";" in part or _ESCAPE.search(part):
            continue
        key, _, value = part.partition("=")
        found.setdefault(urllib.parse.unquote_plus(key), []).append(urllib.parse.unquote_plus(value))
    return found
