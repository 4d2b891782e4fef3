"""How long a request may take, and how many may be under way.

Made by server, asked by pipeline. Numbers are bounded by priority and fairness, or, where that is switched off, by the
plain limits that it has replaced.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any, Protocol

from kybern.apiserver.flow_control.control import FlowControl, refusal
from kybern.apiserver.request import LONG_SUBRESOURCES, Answered, Request, RequestInfo
from kybern.machinery import times
from kybern.machinery.status import ApiError

_LONGEST = 64  # characters of a duration


def is_long(info: RequestInfo) -> bool:
    """Lasts as long as the client wants: watches, logs, proxied requests."""
    return info.verb == "watch" or info.subresource in LONG_SUBRESOURCES


class Seating(Protocol):
    """Who gives seats: FlowControl, or InFlight."""

    def __call__(self, request: Request) -> Awaitable[None] | None: ...

    def enter(self, request: Request) -> Awaitable[None] | None: ...

    def admit(self, request: Request) -> None: ...


class Limits:
    """Of one server."""

    def __init__(self, seating: Seating, request_timeout: float) -> None:
        self.request_timeout = request_timeout
        self.enter = seating.enter
        self.admit = seating.admit

    def time_of(self, request: Request) -> float:
        """Seconds that the request asks for in `?timeout=`, as far as they are allowed. Raises ApiError 400."""
        text = request.flag("timeout")
        if not text:
            return self.request_timeout
        if len(text) > _LONGEST:
            raise ApiError.bad_request("invalid timeout specified in the request URL - too long")
        try:
            seconds = times.parse_duration(text)
        except ValueError as error:
            raise ApiError.bad_request(f"invalid timeout specified in the request URL - {error}") from None
        return min(seconds, self.request_timeout) if seconds > 0 else self.request_timeout


class InFlight:
    """--max-requests-inflight and --max-mutating-requests-inflight, without priority and fairness (0: no limit)."""

    def __init__(self, reading: int, mutating: int) -> None:
        self._flow = _Uncounted()
        self._rooms = {False: _Room(reading), True: _Room(mutating)}

    def __call__(self, request: Request) -> Awaitable[None] | None:
        if not is_long(request.info):
            request.flow = self._flow
        return None

    def enter(self, request: Request) -> Awaitable[None] | None:
        """Raises Answered 429."""
        if request.seat is None:
            request.seat = self._rooms[request.info.verb not in ("get", "list")].enter()
        return None

    def admit(self, request: Request) -> None:
        """Watches are not counted."""


class _Room:
    def __init__(self, most: int) -> None:
        self._most = most
        self.taken = 0

    def enter(self) -> _Place:
        if self._most and self.taken >= self._most:
            raise Answered(refusal())
        self.taken += 1
        return _Place(self)


class _Place:
    """One request under way."""

    def __init__(self, room: _Room) -> None:
        self._room: _Room | None = room

    def release(self) -> None:
        if self._room is not None:
            self._room.taken -= 1
            self._room = None


class _Uncounted:
    """What FlowControl's Flow is to the pipeline, where there is none."""

    fields = b""
    quick = 0
    name = ""

    @property
    def counts(self) -> Any:
        return self

    level = counts


__all__ = ["FlowControl", "InFlight", "Limits", "Seating", "is_long"]
