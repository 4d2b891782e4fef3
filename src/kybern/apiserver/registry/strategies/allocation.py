"""Pools of numbers that are given out once: cluster IPs and node ports.

Used by services. What is taken is read from the objects themselves (`used`), so that nothing has to be repaired; what
was given out to writes still under way is remembered until they show up, fail, or are forgotten after a while.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass

_FORGET_AFTER = 60.0  # seconds: longer than any write takes
_TRIES = 64


class PoolFull(Exception):
    """Nothing is left."""


class Taken(Exception):
    """The number asked for is somebody's."""


@dataclass(frozen=True, slots=True)
class Range:
    """From `first` to `last`; those below `dynamic` are given out when asked for, or when all else is gone."""

    first: int
    last: int
    dynamic: int

    def __contains__(self, number: int) -> bool:
        return self.first <= number <= self.last


def service_addresses(network: int, size: int) -> Range:
    """The usable addresses of a service CIDR. Source: KEP-3070 (a reserved part for addresses asked for)."""
    reserved = min(max(16, size // 16), 256) if size > 16 else 0
    return Range(network + 1, network + size - 2, network + max(1, reserved))


def node_ports(first: int, last: int) -> Range:
    """Source: KEP-3668."""
    size = last - first + 1
    reserved = min(max(16, size // 32), 128) if size > 16 else 0
    return Range(first, last, first + reserved)


class Pool:
    """One range. `used` yields the numbers that objects hold now, `version` changes whenever they may have changed."""

    def __init__(
        self,
        numbers: Range,
        used: Callable[[], Iterable[int]],
        version: Callable[[], int],
        now: Callable[[], float],
        rng: random.Random,
    ) -> None:
        self.numbers = numbers
        self._used, self._version, self._now, self._rng = used, version, now, rng
        self._held: frozenset[int] = frozenset()
        self._held_at: int | None = None
        self._pending: dict[int, float] = {}  # number -> when it is forgotten

    def is_taken(self, number: int) -> bool:
        return number in self._pending or number in self._current()

    def take(self, number: int) -> None:
        """Exactly this one. Raises Taken; the range is the caller's to check."""
        self._sweep()
        if self.is_taken(number):
            raise Taken
        self._pending[number] = self._now() + _FORGET_AFTER

    def take_any(self) -> int:
        """One that is free. Raises PoolFull."""
        self._sweep()
        held = self._current()
        for _ in range(_TRIES):
            number: int = self._rng.randint(min(self.numbers.dynamic, self.numbers.last), self.numbers.last)
            if number not in held and number not in self._pending:
                self._pending[number] = self._now() + _FORGET_AFTER
                return number
        # Nearly full: look at every one, the dynamic part first.
        dynamic, reserved = (
            range(self.numbers.dynamic, self.numbers.last + 1),
            range(self.numbers.first, self.numbers.dynamic),
        )
        for candidate in itertools.chain(dynamic, reserved):
            if candidate not in held and candidate not in self._pending:
                self._pending[candidate] = self._now() + _FORGET_AFTER
                return candidate
        raise PoolFull

    def give_back(self, numbers: Iterable[int]) -> None:
        """These are no longer held for a write; what objects hold stays taken."""
        for number in numbers:
            self._pending.pop(number, None)

    def held(self) -> frozenset[int]:
        """What objects hold now."""
        return self._current()

    def _current(self) -> frozenset[int]:
        version = self._version()
        if version != self._held_at:
            self._held = frozenset(self._used())
            self._held_at = version
        return self._held

    def _sweep(self) -> None:
        now = self._now()
        for number in [n for n, until in self._pending.items() if until < now]:
            del self._pending[number]
