"""How long a crashing container waits: 10 s, doubling to 5 minutes, forgotten after 10 quiet minutes.

The entries are data that plan reads; pod_workers writes them when a container is started again.
Source: "Pod Lifecycle: how Pods handle problems with containers".
"""

from __future__ import annotations

from dataclasses import dataclass

SECOND = 10**9  # times are in ns, as the runtime's


@dataclass(frozen=True, slots=True)
class Limits:
    first: float = 10.0  # seconds
    longest: float = 300.0


DEFAULT = Limits()


@dataclass(frozen=True, slots=True)
class Entry:
    """The delay a container pays at its next crash."""

    delay: float  # seconds
    since: int  # when it was last restarted, ns


def wait_until(entry: Entry | None, finished_at: int, limits: Limits = DEFAULT) -> int:
    """When a container that ended at `finished_at` may start again, ns; 0 for at once."""
    if entry is None or _is_stale(entry, finished_at, limits):
        return 0
    return finished_at + int(entry.delay * SECOND)


def after_restart(entry: Entry | None, finished_at: int, now: int, limits: Limits = DEFAULT) -> Entry:
    """The entry once a container that ended at `finished_at` was started again."""
    if entry is None or _is_stale(entry, finished_at, limits):
        return Entry(limits.first, now)
    return Entry(min(entry.delay * 2, limits.longest), now)


def _is_stale(entry: Entry, finished_at: int, limits: Limits) -> bool:
    return finished_at - entry.since > 2 * limits.longest * SECOND
