"""Pools of numbers that are given out once: cluster IPs and node ports.

Used by services. What is taken is read from the objects themselves (`Holdings`), so that nothing has to be repaired;
what was given out to writes still under way is remembered until they show up, fail, or are forgotten after a while.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import Any

from kybern.apiserver.request import Reader

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


class Holdings:
    """The numbers that objects of a resource hold: what has changed is told in and out, all are looked at only once.

    `numbers_of`: those of an object.
    """

    def __init__(self, reader: Reader, resource: str, numbers_of: Callable[[Any], Iterable[int]]) -> None:
        self._reader, self._resource, self._numbers_of = reader, resource, numbers_of
        self._holders: dict[int, int] = {}  # number -> how many times it is held, never 0
        self._at: int | None = None  # version

    def now(self) -> Collection[int]:
        """Not to be kept: it changes."""
        version = self._reader.version(self._resource)
        if version != self._at:
            changes = self._reader.changes(self._resource, self._at) if self._at is not None else None
            if changes is None:
                self._holders.clear()
                changes = [(None, obj) for obj in self._reader.list(self._resource)]
            for before, after in changes:
                self._add(before, -1)
                self._add(after, 1)
            self._at = version
        return self._holders.keys()

    def _add(self, obj: Any | None, step: int) -> None:
        for number in self._numbers_of(obj) if obj is not None else ():
            count = self._holders.get(number, 0) + step
            if count:
                self._holders[number] = count
            else:
                del self._holders[number]


class Pool:
    """One range. `held` gives the numbers that objects hold now, of this range and of others."""

    def __init__(
        self, numbers: Range, held: Callable[[], Collection[int]], now: Callable[[], float], rng: random.Random
    ) -> None:
        self.numbers = numbers
        self.held = held
        self._now, self._rng = now, rng
        self._pending: dict[int, float] = {}  # number -> when it is forgotten

    def is_taken(self, number: int) -> bool:
        return number in self._pending or number in self.held()

    def take(self, number: int) -> None:
        """Exactly this one. Raises Taken; the range is the caller's to check."""
        self._sweep()
        if self.is_taken(number):
            raise Taken
        self._pending[number] = self._now() + _FORGET_AFTER

    def take_any(self) -> int:
        """One that is free. Raises PoolFull."""
        self._sweep()
        held = self.held()
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

    def _sweep(self) -> None:
        now = self._now()
        for number in [n for n, until in self._pending.items() if until < now]:
            del self._pending[number]
