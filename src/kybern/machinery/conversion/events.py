"""Events: core/v1 and events.k8s.io/v1 are two spellings of one object. Source: the API reference of both."""

from __future__ import annotations

from typing import Any

# events.k8s.io/v1 name -> core/v1 name
_NAMES = {
    "note": "message",
    "regarding": "involvedObject",
    "reportingController": "reportingComponent",
    "deprecatedSource": "source",
    "deprecatedFirstTimestamp": "firstTimestamp",
    "deprecatedLastTimestamp": "lastTimestamp",
    "deprecatedCount": "count",
}
_BACK = {core: new for new, core in _NAMES.items()}


def to_core_v1(event: dict[str, Any]) -> dict[str, Any]:
    core = {_NAMES.get(k, k): v for k, v in event.items()}
    core.setdefault("involvedObject", {})
    return core


def to_events_v1(event: dict[str, Any]) -> dict[str, Any]:
    new = {_BACK.get(k, k): v for k, v in event.items()}
    new.setdefault("eventTime", None)
    return new
