"""Which numbers of the shared endpoints map belong to which chain.

A chain that balances over N endpoints draws `numgen random mod N offset START` and looks the number up in one map
that all Services share: an anonymous map a Service costs the kernel time that grows with their number (12 s for
10,000; docs/decisions/0010). Kept by transaction.py, one instance a table. The size of a range is a power of two, so
that an endpoint that comes or goes mostly changes a few elements.
"""

from __future__ import annotations

from dataclasses import dataclass

from kybern.proxy.endpoints import Target

LARGEST = 2**31


@dataclass(frozen=True, slots=True)
class Range:
    """The numbers [start, start + size) with the targets at its beginning."""

    start: int
    size: int
    targets: tuple[Target, ...]


class Ranges:
    """Allocation state of the endpoints map, and what must change in it."""

    def __init__(self) -> None:
        self._ranges: dict[str, Range] = {}
        self._free: dict[int, list[int]] = {}
        # Given back since the last `take`. Not given out before the next: a packet that still reads the rules of
        # before must not find another Service's endpoint.
        self._resting: list[Range] = []
        self._next = 0
        self.removed: list[int] = []
        self.added: list[tuple[int, Target]] = []

    def take(self) -> tuple[list[int], list[tuple[int, Target]]]:
        """Numbers to delete, and numbers to add with their targets, since the last call."""
        taken = (self.removed, self.added)
        self.removed, self.added = [], []
        for old in self._resting:
            self._free.setdefault(old.size, []).append(old.start)
        self._resting = []
        return taken

    def assign(self, chain: str, targets: tuple[Target, ...]) -> int:
        """Where the chain's targets start now. Raises OverflowError when all numbers are spent."""
        old = self._ranges.get(chain)
        size = 1 << (len(targets) - 1).bit_length()
        if old is not None and old.size != size:
            self.release(chain)
            old = None
        start = old.start if old is not None else self._allocate(size)
        before = old.targets if old is not None else ()
        for index in range(max(len(before), len(targets))):
            was = before[index] if index < len(before) else None
            now = targets[index] if index < len(targets) else None
            if was != now:
                if was is not None:
                    self.removed.append(start + index)
                if now is not None:
                    self.added.append((start + index, now))
        self._ranges[chain] = Range(start, size, targets)
        return start

    def release(self, chain: str) -> None:
        """The chain balances no more."""
        old = self._ranges.pop(chain, None)
        if old is not None:
            self.removed += range(old.start, old.start + len(old.targets))
            self._resting.append(old)

    def _allocate(self, size: int) -> int:
        free = self._free.get(size)
        if free:
            return free.pop()
        start = self._next
        if start + size > LARGEST:
            raise OverflowError("the endpoints map has no numbers left: write the table anew")
        self._next = start + size
        return start
