"""Where audit events go: what all sinks have in common, and cutting events that are too large for one.

Fed by record. `put` never waits: a sink writes at once (log_file) or queues (batch).
"""

from __future__ import annotations

from typing import Any, Protocol

import msgspec

TRUNCATED = "audit.k8s.io/truncated"


class Event:
    """One event, encoded once for all sinks."""

    __slots__ = ("_data", "fields")

    def __init__(self, fields: dict[str, Any]) -> None:
        self.fields = fields
        self._data = b""

    @property
    def data(self) -> bytes:
        """One line of JSON, without its end."""
        if not self._data:
            self._data = msgspec.json.encode(self.fields)
        return self._data

    def truncated(self) -> Event:
        """Without the objects."""
        left = {k: v for k, v in self.fields.items() if k not in ("requestObject", "responseObject")}
        left["annotations"] = {**left.get("annotations", {}), TRUNCATED: "true"}
        return Event(left)


class Sink(Protocol):
    """Takes events."""

    def put(self, event: Event) -> bool:
        """False where the event is lost and the request must not go on (mode blocking-strict)."""
        ...


class Truncating:
    """Cuts what is larger than `most` bytes; what is still too large is dropped and counted."""

    def __init__(self, inner: Sink, most: int) -> None:
        self._inner = inner
        self._most = most
        self.dropped = 0

    def put(self, event: Event) -> bool:
        if len(event.data) > self._most:
            event = event.truncated()
            if len(event.data) > self._most:
                self.dropped += 1
                return True
        return self._inner.put(event)
