"""Send batches of audit events to a server: an EventList a POST, again and again where it fails.

Behind batch. A batch that could not be sent in all tries is lost and counted.
Source: "Webhook backend" in the Kubernetes documentation.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Sequence

import structlog

from kybern.apiserver.audit.sinks import Event
from kybern.machinery.clock import Clock

log = structlog.get_logger(__name__)

TRIES = 5
_FACTOR = 1.5
_JITTER = 0.2

# Post a body; raises CallFailed-like errors of `failures`.
Post = Callable[[bytes], Awaitable[object]]


class Webhook:
    """The `deliver` of a Batch."""

    def __init__(
        self, post: Post, failures: tuple[type[Exception], ...], clock: Clock, rng: random.Random, backoff: float = 10.0
    ) -> None:
        """`failures` are what `post` raises; `backoff` is in seconds, before the second try."""
        self._post = post
        self._failures = failures
        self._clock = clock
        self._rng = rng
        self._backoff = backoff
        self.lost = 0

    async def deliver(self, events: Sequence[Event]) -> None:
        body = render(events)
        pause = self._backoff
        for attempt in range(1, TRIES + 1):
            try:
                await self._post(body)
                return
            except self._failures as error:
                why = str(error)
            if attempt < TRIES:
                await self._clock.sleep(pause * (1 + _JITTER * self._rng.random()))
                pause *= _FACTOR
        self.lost += len(events)
        log.error("audit events could not be sent and are lost", events=len(events), lost=self.lost, error=why)


def render(events: Sequence[Event]) -> bytes:
    head = b'{"kind":"EventList","apiVersion":"audit.k8s.io/v1","metadata":{},"items":['
    return head + b",".join(event.data for event in events) + b"]}"
