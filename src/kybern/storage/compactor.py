"""Keep the last minutes of history and compact what is older, so that memory and file stay bounded.

Run by process/apiserver beside the store; calls only Store.compact. Promises: a revision stays readable for
`keep` seconds after it was superseded, unless more than `most` writes came since, or superseded more than `most_bytes`.
"""

from __future__ import annotations

from collections import deque

import structlog

from kybern.machinery.clock import Clock
from kybern.storage.interface import Revision, Store, StoreUnavailable

log = structlog.get_logger(__name__)

KEEP = 300.0  # seconds; kube-apiserver --etcd-compaction-interval: 5m
INTERVAL = 15.0  # seconds between looks
MOST = 500_000  # changes of history, whatever their age
MOST_BYTES = 256 << 20  # of superseded values, which are in memory


class Compactor:
    """See the module's docstring."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        *,
        keep: float = KEEP,
        interval: float = INTERVAL,
        most: int = MOST,
        most_bytes: int = MOST_BYTES,
    ) -> None:
        self._store = store
        self._clock = clock
        self._keep = keep
        self._interval = interval
        self._most = most
        self._most_bytes = most_bytes
        # When the store was at which revision, and had superseded how many bytes; oldest first.
        self._marks: deque[tuple[float, Revision, int]] = deque()

    async def run(self) -> None:
        """Until cancelled. A store that cannot compact now is tried again at the next look."""
        while True:
            target = self._plan(self._clock.monotonic(), self._store.revision)
            if target > self._store.oldest:
                try:
                    await self._store.compact(target)
                except StoreUnavailable as error:
                    log.warning("history could not be compacted", revision=target, error=str(error))
            await self._clock.sleep(self._interval)

    def _plan(self, now: float, current: Revision) -> Revision:
        """The revision to compact to: the newest one that is `keep` old, or further if there is too much."""
        superseded = self._store.superseded_bytes
        self._marks.append((now, current, superseded))
        target = Revision(0)
        while self._marks and (
            self._marks[0][0] <= now - self._keep or self._marks[0][2] < superseded - self._most_bytes
        ):
            target = self._marks.popleft()[1]
        return Revision(max(target, current - self._most))
