"""Request heads: bytes up to the empty line become a method, a target and fields. Pure; used by connection.

Two parts, because a client repeats its fields on a connection and changes the request line: `parse_line` and
`parse_fields`, whose result can be kept. The fields' grammar is checked by llhttp (httptools) in its strict
mode, which refuses bare LF, obs-fold, whitespace before the colon, and repeated or contradictory lengths; what RFC 9112
asks beyond it (Host, transfer codings, HTTP/1.0) is checked here. Faults are ApiErrors.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass

import httptools

from kybern.machinery.status import ApiError
from kybern.wire.http1 import target as targets

_METHODS = {m.encode(): m for m in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")}
_TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,64}")
_CONTROL = re.compile(rb"[\x00-\x20\x7f]")

# Fields that may stand once: a second one is an attempt to be read in two ways.
_SINGLE = frozenset({"host", "content-length", "transfer-encoding", "authorization", "content-type"})

CHUNKED = -1
# Longer request lines are rare, and anybody may send them.
_LONGEST_KEPT = 512


@dataclass(frozen=True, slots=True)
class Line:
    """The request line."""

    method: str
    target: str
    path: str
    query: Mapping[str, list[str]]
    minor: int  # HTTP/1.<minor>


@dataclass(frozen=True, slots=True)
class Fields:
    """The header fields, and what they say about the message."""

    headers: Mapping[str, str]  # names in lower case; shared by the requests that repeat them
    length: int  # of the body; CHUNKED: unknown
    has_close: bool  # Connection: close
    expects_continue: bool
    accepts_gzip: bool


def parse_line(line: bytes) -> Line:
    """`GET /path?query HTTP/1.1`. What was asked before is not read again. Raises ApiError (400, 505)."""
    return _kept_line(line) if len(line) <= _LONGEST_KEPT else _parse_line(line)


def _parse_line(line: bytes) -> Line:
    parts = line.split(b" ")
    if len(parts) != 3:
        raise ApiError.bad_request("malformed HTTP request line")
    raw_method, raw_target, version = parts
    method = _METHODS.get(raw_method)
    if method is None:
        if not _TOKEN.fullmatch(raw_method):
            raise ApiError.bad_request("malformed HTTP method")
        method = raw_method.decode()
    if version == b"HTTP/1.1":
        minor = 1
    elif version == b"HTTP/1.0":
        minor = 0
    else:
        raise ApiError.make(505, "BadRequest", "only HTTP/1.1 and HTTP/1.0 are spoken here")
    if not raw_target.startswith(b"/"):
        raw_target = _origin_form(method, raw_target)
    if _CONTROL.search(raw_target):
        raise ApiError.bad_request("invalid character in URL")
    try:
        target = raw_target.decode()
        path, query = targets.split_target(target)
    except UnicodeDecodeError:
        raise ApiError.bad_request("URL is not valid UTF-8") from None
    except targets.BadTarget as fault:
        raise ApiError.bad_request(str(fault)) from None
    return Line(method, target, path, query, minor)


_kept_line = functools.lru_cache(maxsize=16384)(_parse_line)


def _origin_form(method: str, target: bytes) -> bytes:
    """What a proxy-style target (`http://host/path`) asks of this server; `*` only with OPTIONS."""
    if target == b"*" and method == "OPTIONS":
        return b"/"
    scheme, mark, rest = target.partition(b"://")
    if not mark or scheme.lower() not in (b"http", b"https"):
        raise ApiError.bad_request("malformed request target")
    slash = rest.find(b"/")
    return rest[slash:] if slash >= 0 else b"/"


class _Collector:
    """What httptools calls back."""

    def __init__(self) -> None:
        self.fields: list[tuple[bytes, bytes]] = []

    def on_header(self, name: bytes, value: bytes) -> None:
        self.fields.append((name, value))


def parse_fields(block: bytes, minor: int, max_fields: int) -> Fields:
    """The field lines after the request line, without the empty line. Raises ApiError (400, 415, 417, 431)."""
    if block.count(b"\n") > max_fields:
        raise ApiError.make(431, "RequestHeaderFieldsTooLarge", "too many header fields")
    collector = _Collector()
    if block:
        try:
            httptools.HttpRequestParser(collector).feed_data(b"POST / HTTP/1.1\r\n" + block + b"\r\n\r\n")
        except httptools.HttpParserUpgrade:
            pass  # raised after all fields were read
        except httptools.HttpParserError as fault:
            raise ApiError.bad_request(f"malformed HTTP header: {fault}") from None
    headers: dict[str, str] = {}
    for raw_name, raw_value in collector.fields:
        name, value = raw_name.decode("ascii").lower(), raw_value.decode("latin-1").strip(" \t")
        if name in headers:
            if name in _SINGLE:
                raise ApiError.bad_request(f"repeated header {name}")
            value = headers[name] + ", " + value
        headers[name] = value
    return Fields(
        headers,
        _length_of(headers, minor),
        has_close="close" in tokens(headers.get("connection", "")),
        expects_continue=_expects_continue(headers),
        accepts_gzip="accept-encoding" in headers and _accepts_gzip(headers["accept-encoding"]),
    )


def _length_of(headers: dict[str, str], minor: int) -> int:
    if minor == 1 and "host" not in headers:
        raise ApiError.bad_request("missing required Host header")
    if tokens(headers.get("content-encoding", "")) - {"identity"}:
        # kube-apiserver decodes no request body either; here that is said before it is read as JSON.
        raise ApiError.make(415, "UnsupportedMediaType", "encoded request bodies are not supported")
    length = headers.get("content-length")
    coding = headers.get("transfer-encoding")
    if coding is not None:
        if length is not None or minor == 0 or coding.lower() != "chunked":
            raise ApiError.bad_request("unsupported transfer encoding")
        return CHUNKED
    if length is None:
        return 0
    if not (length.isascii() and length.isdigit()) or len(length) > 18:
        raise ApiError.bad_request("bad Content-Length")
    return int(length)


def _expects_continue(headers: dict[str, str]) -> bool:
    expected = headers.get("expect")
    if expected is None:
        return False
    if expected.lower() != "100-continue":
        raise ApiError.make(417, "ExpectationFailed", f'unknown expectation "{expected}"')
    return True


def _accepts_gzip(value: str) -> bool:
    for part in value.split(","):
        coding, _, weight = part.partition(";")
        if coding.strip().lower() in ("gzip", "*"):
            return weight.replace(" ", "").lower() not in ("q=0", "q=0.0", "q=0.00", "q=0.000")
    return False


def tokens(value: str) -> set[str]:
    """The comma-separated words of a field such as Connection, in lower case."""
    return {word for part in value.split(",") if (word := part.strip().lower())}
