"""Audit: who asked for what, when, and what came of it, as audit.k8s.io/v1 events.

`policy` (how much is recorded of a request) -> `record` (one request's events) -> `sinks` (`log_file`, `batch`,
`webhook`). `build` puts them together; the pipeline calls `record` at the stages of a request. Without a policy file
nothing of this exists. Source: "Auditing" in the Kubernetes documentation.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import Protocol


class Annotated(Protocol):
    """A request under audit, as admission sees it."""

    def annotate(self, key: str, value: str) -> None: ...


# The request that this task works on, where it is audited. Set by the pipeline for handlers that write.
_current: ContextVar[Annotated | None] = ContextVar("kybern_audited", default=None)


def annotate(key: str, value: str) -> None:
    """Add to the audit event of the request under way; nothing if it is not audited. The first value of a key stays."""
    record = _current.get()
    if record is not None:
        record.annotate(key, value)


def is_on() -> bool:
    """Whether the request under way is audited: worth finding out more than the request needs."""
    return _current.get() is not None


def enter(record: Annotated) -> None:
    """What `annotate` says in this task from now on is about this request."""
    _current.set(record)
