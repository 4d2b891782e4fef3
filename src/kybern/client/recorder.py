"""Events about objects: what a component did or could not do, for people to read with `kubectl describe`.

Called by reconcilers, synchronously; `run` writes in the background through rest. Never blocks and never raises:
a full queue drops the newest. The same event again raises a count; many alike become one "combined" event; a
component that goes on about one object is throttled. Limits are upstream's.
"""

from __future__ import annotations

import asyncio
import collections
import datetime
from dataclasses import dataclass
from typing import Any, NamedTuple

import structlog

from kybern.api import scalars
from kybern.api.core_v1 import Event, EventSource, ObjectReference
from kybern.api.meta_v1 import ObjectMeta
from kybern.client.rest import RestClient
from kybern.machinery.clock import Clock
from kybern.machinery.status import ApiError

QUEUE_LIMIT = 1000
CACHE_LIMIT = 4096
ALIKE_LIMIT = 10  # different messages of one reason, after which they are combined
ALIKE_WINDOW = 600.0  # seconds
BURST = 25  # events about one object ...
REFILL = 300.0  # ... and one more each so many seconds
MESSAGE_LIMIT = 1024
ATTEMPTS = 3

log = structlog.get_logger(__name__)


class Subject(NamedTuple):
    """Whom an event is about, as part of a key."""

    kind: str
    namespace: str
    name: str
    uid: str
    field_path: str = ""


@dataclass(frozen=True, slots=True)
class Noted:
    """An event on its way to the server."""

    reference: ObjectReference
    type: str
    reason: str
    message: str
    moment: datetime.datetime


@dataclass(slots=True)
class _Written:
    namespace: str
    name: str
    count: int
    first: scalars.Time


@dataclass(slots=True)
class _Bucket:
    tokens: float
    filled_at: float


@dataclass(slots=True)
class _Alike:
    messages: set[str]
    since: float


class Correlator:
    """Which events are let through, and which are the same. Pure but for the times handed in."""

    def __init__(self) -> None:
        self._buckets: collections.OrderedDict[Subject, _Bucket] = collections.OrderedDict()
        self._alike: collections.OrderedDict[tuple[Subject, str, str], _Alike] = collections.OrderedDict()

    def admit(self, subject: Subject, now: float) -> bool:
        """Whether the object has not had too many events lately."""
        bucket = self._buckets.pop(subject, None) or _Bucket(BURST, now)
        bucket.tokens = min(BURST, bucket.tokens + (now - bucket.filled_at) / REFILL)
        bucket.filled_at = now
        self._buckets[subject] = bucket
        _trim(self._buckets)
        if bucket.tokens < 1:
            return False
        bucket.tokens -= 1
        return True

    def combine(self, subject: Subject, type_: str, reason: str, message: str, now: float) -> str:
        """The message to write: its own, or the common one of many alike."""
        key = (subject, type_, reason)
        alike = self._alike.pop(key, None)
        if alike is None or now - alike.since > ALIKE_WINDOW:
            alike = _Alike(set(), now)
        self._alike[key] = alike
        _trim(self._alike)
        if len(alike.messages) < ALIKE_LIMIT:
            alike.messages.add(message)
        if message in alike.messages:
            return message
        return "(combined from similar events): " + message


class EventRecorder:
    """The events of one component."""

    def __init__(self, client: RestClient, clock: Clock, component: str, *, host: str = "") -> None:
        self._client = client
        self._clock = clock
        self._source = EventSource(component=component, host=host or None)
        self._component = component
        self._host = host
        self._queue: asyncio.Queue[Noted] = asyncio.Queue(QUEUE_LIMIT)
        self._correlator = Correlator()
        self._written: collections.OrderedDict[tuple[Any, ...], _Written] = collections.OrderedDict()
        self._stamp = 0
        self.dropped = 0

    def event(self, obj: Any, type_: str, reason: str, message: str, *, field_path: str = "") -> None:
        """Note that something happened to `obj` (a Struct, dict or ObjectReference); `type_`: Normal or Warning."""
        reference = reference_of(obj)
        if field_path:
            reference.fieldPath = field_path
        try:
            self._queue.put_nowait(Noted(reference, type_, reason, message[:MESSAGE_LIMIT], self._clock.now()))
        except asyncio.QueueFull:
            self.dropped += 1

    async def run(self) -> None:
        """Write what was noted, in order. Runs until cancelled."""
        while True:
            noted = await self._queue.get()
            try:
                await self._write(noted)
            except ApiError as error:
                level = log.debug if error.code in (403, 404) else log.warning  # a namespace going away takes none
                level("could not write an event", reason=noted.reason, object=noted.reference.name, error=str(error))
            except Exception:  # supervised: events are told for people, nothing may fail for want of one
                log.exception("writing an event broke", reason=noted.reason, object=noted.reference.name)

    async def flush(self) -> None:
        """Write what is waiting now (on the way out of a process)."""
        while not self._queue.empty():
            try:
                await self._write(self._queue.get_nowait())
            except ApiError:
                return

    async def _write(self, noted: Noted) -> None:
        reference = noted.reference
        now = self._clock.monotonic()
        subject = Subject(
            reference.kind or "",
            reference.namespace or "",
            reference.name or "",
            reference.uid or "",
            reference.fieldPath or "",
        )
        message = self._correlator.combine(subject, noted.type, noted.reason, noted.message, now)
        if not self._correlator.admit(subject, now):
            return
        combined = message is not noted.message and message != noted.message
        key = (subject, noted.type, noted.reason, "" if combined else message)
        written = self._written.pop(key, None)
        if written is not None:
            self._written[key] = written
            if await self._count(written, message, noted.moment):
                return
        event = self._event(noted, message)
        event = await self._create(event)
        self._written[key] = _Written(
            event.metadata.namespace, event.metadata.name, 1, scalars.render_time(noted.moment)
        )
        _trim(self._written)

    async def _count(self, written: _Written, message: str, moment: datetime.datetime) -> bool:
        """Raise the count of an event that exists; False if it has expired meanwhile."""
        patch = {
            "count": written.count + 1,
            "lastTimestamp": scalars.render_time(moment),
            "message": message,
        }
        try:
            await self._client.patch(Event, written.namespace, written.name, patch)
        except ApiError as error:
            if not error.is_not_found:
                raise
            return False
        written.count += 1
        return True

    async def _create(self, event: Event) -> Event:
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return await self._client.create(event)
            except ApiError as error:
                if error.code < 500 or attempt == ATTEMPTS:
                    raise
                await self._clock.sleep(2.0**attempt)
        raise AssertionError("unreachable: the last attempt returns or raises")

    def _event(self, noted: Noted, message: str) -> Event:
        reference = noted.reference
        moment = scalars.render_time(noted.moment)
        # Unique among the events of the object: upstream's form is the name and the time in hexadecimal.
        self._stamp = max(self._stamp + 1, int(noted.moment.timestamp() * 1_000_000) * 1000)
        name = f"{reference.name}.{self._stamp:x}"
        return Event(
            metadata=ObjectMeta(name=name, namespace=reference.namespace or "default"),
            involvedObject=reference,
            type=noted.type,
            reason=noted.reason,
            message=message,
            firstTimestamp=moment,
            lastTimestamp=moment,
            count=1,
            source=self._source,
            reportingComponent=self._component,
            reportingInstance=self._host,
        )


def reference_of(obj: Any) -> ObjectReference:
    """A reference to any object."""
    if isinstance(obj, ObjectReference):
        return ObjectReference(
            kind=obj.kind,
            apiVersion=obj.apiVersion,
            namespace=obj.namespace,
            name=obj.name,
            uid=obj.uid,
            resourceVersion=obj.resourceVersion,
            fieldPath=obj.fieldPath,
        )
    if isinstance(obj, dict):
        meta = obj.get("metadata") or {}
        return ObjectReference(
            kind=obj.get("kind"),
            apiVersion=obj.get("apiVersion"),
            namespace=meta.get("namespace"),
            name=meta.get("name"),
            uid=meta.get("uid"),
            resourceVersion=meta.get("resourceVersion"),
        )
    meta = obj.metadata
    return ObjectReference(
        kind=obj.kind,
        apiVersion=obj.apiVersion,
        namespace=meta.namespace or None,
        name=meta.name,
        uid=meta.uid or None,
        resourceVersion=meta.resourceVersion or None,
    )


def _trim(cache: collections.OrderedDict[Any, Any]) -> None:
    while len(cache) > CACHE_LIMIT:
        cache.popitem(last=False)
