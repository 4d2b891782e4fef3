"""Answers as bytes: status line, fields, body. Pure; used by connection.

The prefix of a status and content type is rendered once; the date comes ready-made, once a second.
"""

from __future__ import annotations

import datetime
import functools
import http

from kybern.api import codec
from kybern.machinery.status import ApiError
from kybern.wire.message import Response, StreamResponse, UpgradeResponse

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def render_date(now: datetime.datetime) -> bytes:
    """The Date field with its line end (RFC 9110 section 5.6.7). `now` is UTC."""
    return (
        f"Date: {_DAYS[now.weekday()]}, {now.day:02d} {_MONTHS[now.month - 1]} {now.year:04d} "
        f"{now.hour:02d}:{now.minute:02d}:{now.second:02d} GMT\r\n"
    ).encode()


@functools.lru_cache(maxsize=256)
def _status_line(status: int) -> bytes:
    try:
        phrase = http.HTTPStatus(status).phrase
    except ValueError:
        phrase = "Status"
    return f"HTTP/1.1 {status} {phrase}\r\n".encode()


@functools.lru_cache(maxsize=256)
def _prefix(status: int, content_type: str) -> bytes:
    typed = b"Content-Type: %b\r\n" % field_bytes(content_type) if content_type else b""
    return _status_line(status) + typed


def field_bytes(value: str) -> bytes:
    """Latin-1 where it fits, UTF-8 else; never a line end, which would start another field."""
    if value.isascii() and value.isprintable():
        return value.encode()
    try:
        raw = value.encode("latin-1")
    except UnicodeEncodeError:
        raw = value.encode("utf-8", "replace")
    if b"\n" in raw or b"\r" in raw or b"\0" in raw:
        raw = raw.replace(b"\n", b" ").replace(b"\r", b" ").replace(b"\0", b" ")
    return raw


def render_fields(headers: tuple[tuple[str, str], ...]) -> bytes:
    """`Name: value` lines."""
    return b"".join([b"%b: %b\r\n" % (name.encode("ascii"), field_bytes(value)) for name, value in headers])


def is_bodiless(status: int) -> bool:
    """RFC 9110: no body, and no length, whatever was asked."""
    return status in (204, 304)


def render_response(response: Response, date: bytes, *, close: bool) -> bytes:
    """Everything before the body."""
    status, size = response.status, len(response.body)
    return b"%b%b%b%b%b%b\r\n" % (
        _prefix(status, response.content_type if size else ""),
        date,
        response.fields,
        render_fields(response.headers) if response.headers else b"",
        b"" if is_bodiless(status) else b"Content-Length: %d\r\n" % size,
        b"Connection: close\r\n" if close else b"",
    )


def render_stream(response: StreamResponse, date: bytes, *, chunked: bool, close: bool) -> bytes:
    return b"%b%b%b%b%b%b\r\n" % (
        _prefix(response.status, response.content_type),
        date,
        response.fields,
        render_fields(response.headers) if response.headers else b"",
        b"Transfer-Encoding: chunked\r\n" if chunked else b"",
        b"Connection: close\r\n" if close else b"",
    )


def render_upgrade(response: UpgradeResponse, date: bytes) -> bytes:
    return b"%b%bUpgrade: %b\r\nConnection: Upgrade\r\n%b\r\n" % (
        _status_line(101),
        date,
        field_bytes(response.protocol),
        render_fields(response.headers),
    )


def response_of(error: ApiError) -> Response:
    """The Status of an error as an answer."""
    return Response(error.code, codec.encode(error.status), headers=error.headers)
