"""What a client asks of a container log: query parameters to typed options. Pure.

Read by apiserver/proxy, which refuses what makes no sense, and by kubelet/server/logs, which obeys.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from kybern.machinery import status
from kybern.machinery.status import ApiError, FieldError


@dataclass(frozen=True, slots=True)
class LogOptions:
    """As core/v1 PodLogOptions; None: not asked for."""

    follow: bool = False
    previous: bool = False
    timestamps: bool = False
    tail_lines: int | None = None
    limit_bytes: int | None = None
    since: datetime.datetime | None = None
    stream: str = ""  # "stdout", "stderr" or "": both


def parse_options(query: Mapping[str, Sequence[str]], now: datetime.datetime, pod: str = "") -> LogOptions:
    """`pod` is named in errors. Raises ApiError (400 for what cannot be read, 422 for what makes no sense)."""
    seconds, moment = _integer(query, "sinceSeconds"), _first(query, "sinceTime")
    tail, limit = _integer(query, "tailLines"), _integer(query, "limitBytes")
    stream = _first(query, "stream") or "All"
    faults: list[FieldError] = []
    if tail is not None and tail < 0:
        faults.append(status.invalid("tailLines", tail, "must be greater than or equal to 0"))
    if limit is not None and limit < 1:
        faults.append(status.invalid("limitBytes", limit, "must be greater than 0"))
    if seconds is not None and moment:
        faults.append(status.forbidden_field("[]", "at most one of `sinceTime` or `sinceSeconds` may be specified"))
    elif seconds is not None and seconds < 1:
        faults.append(status.invalid("sinceSeconds", seconds, "must be greater than 0"))
    if stream not in ("All", "Stdout", "Stderr"):
        faults.append(status.not_supported("stream", stream, ["All", "Stderr", "Stdout"]))
    elif stream != "All" and tail is not None:
        faults.append(status.forbidden_field("", "`tailLines` and specific `stream` are mutually exclusive for now"))
    if faults:
        raise ApiError.invalid("", "PodLogOptions", pod, faults)
    since = None
    if moment:
        since = _parse_time(moment)
    elif seconds is not None:
        since = now - datetime.timedelta(seconds=min(seconds, 10**9))
    return LogOptions(
        follow=_flag(query, "follow"),
        previous=_flag(query, "previous"),
        timestamps=_flag(query, "timestamps"),
        tail_lines=tail,
        limit_bytes=limit,
        since=since,
        stream="" if stream == "All" else stream.lower(),
    )


def _first(query: Mapping[str, Sequence[str]], name: str) -> str:
    values = query.get(name)
    return values[0] if values else ""


def _flag(query: Mapping[str, Sequence[str]], name: str) -> bool:
    """apimachinery's conversion of query parameters: whatever is there and not false is true."""
    return name in query and _first(query, name).lower() not in ("false", "0")


def _integer(query: Mapping[str, Sequence[str]], name: str) -> int | None:
    text = _first(query, name)
    if not text:
        return None
    try:
        number = int(text) if text.isascii() and "_" not in text and len(text) < 20 else None
    except ValueError:
        number = None
    if number is None:
        raise ApiError.bad_request(f'strconv.ParseInt: parsing "{text}": invalid syntax')
    return number


def _parse_time(text: str) -> datetime.datetime:
    try:
        moment = datetime.datetime.fromisoformat(text)
        if moment.tzinfo is None or "T" not in text.upper():
            raise ValueError
        return moment.astimezone(datetime.UTC)
    except (ValueError, OverflowError):
        raise ApiError.bad_request(
            f'parsing time "{text}" as "2006-01-02T15:04:05Z07:00": cannot parse "{text}" as "2006"'
        ) from None
