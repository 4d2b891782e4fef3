"""Pools of numbers."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kybern.apiserver.registry.strategies.allocation import (
    Holdings,
    Pool,
    PoolFull,
    Range,
    Taken,
    node_ports,
    service_addresses,
)


class Holder:
    def __init__(self, numbers: Range, seed: int = 1) -> None:
        self.held: set[int] = set()
        self.now = 0.0
        self.pool = Pool(numbers, lambda: self.held, lambda: self.now, random.Random(seed))

    def keep(self, number: int) -> None:
        self.held.add(number)


def test_the_low_numbers_are_kept_for_those_who_ask() -> None:
    holder = Holder(node_ports(30000, 32767))
    assert all(holder.pool.take_any() >= 30086 for _ in range(500))
    holder.pool.take(30000)
    with pytest.raises(Taken):
        holder.pool.take(30000)


def test_reserved_parts_are_as_big_as_upstreams() -> None:
    assert service_addresses(0, 2**20) == Range(1, 2**20 - 2, 256)
    assert service_addresses(0, 256).dynamic == 16
    assert service_addresses(0, 16).dynamic == 1
    assert node_ports(30000, 32767).dynamic == 30086


def test_the_last_number_is_found_and_then_the_pool_is_full() -> None:
    holder = Holder(Range(1, 20, 5))
    for number in range(1, 21):
        if number != 3:
            holder.keep(number)
    assert holder.pool.take_any() == 3
    with pytest.raises(PoolFull):
        holder.pool.take_any()
    holder.pool.give_back([3])
    assert holder.pool.take_any() == 3


def test_what_an_object_holds_cannot_be_given_back() -> None:
    holder = Holder(Range(1, 20, 1))
    holder.pool.take(7)
    holder.keep(7)
    holder.pool.give_back([7])
    assert holder.pool.is_taken(7)


def test_a_write_that_never_shows_up_is_forgotten() -> None:
    holder = Holder(Range(1, 20, 1))
    holder.pool.take(7)
    holder.now = 59.0
    with pytest.raises(Taken):
        holder.pool.take(7)
    holder.now = 61.0
    holder.pool.take(7)


@given(st.lists(st.sampled_from(["take", "keep", "fail", "free"]), max_size=80), st.integers(0, 1000))
def test_no_number_is_ever_given_twice(steps: list[str], seed: int) -> None:
    holder = Holder(Range(1, 24, 4), seed)
    pending: list[int] = []
    for step in steps:
        if step == "take":
            try:
                number = holder.pool.take_any()
            except PoolFull:
                assert len(holder.held) + len(pending) == 24
                continue
            assert number not in holder.held
            assert number not in pending
            pending.append(number)
        elif step == "keep" and pending:
            holder.keep(pending.pop())
        elif step == "fail" and pending:
            holder.pool.give_back([pending.pop()])
        elif step == "free" and holder.held:
            number = holder.held.pop()
            holder.pool.give_back([number])


class Kept:
    """Of request.Reader what Holdings asks, over sets of numbers; what has changed is known for the last `known`."""

    def __init__(self, known: int) -> None:
        self.objects: dict[str, frozenset[int]] = {}
        self.listed = 0
        self._known = known
        self._changes: list[tuple[frozenset[int] | None, frozenset[int] | None]] = []

    def put(self, name: str, numbers: frozenset[int] | None) -> None:
        self._changes.append((self.objects.pop(name, None), numbers))
        if numbers is not None:
            self.objects[name] = numbers

    def list(self, resource: str, namespace: str | None = None) -> list[Any]:
        self.listed += 1
        return list(self.objects.values())

    def version(self, resource: str) -> int:
        return len(self._changes)

    def changes(self, resource: str, since: int) -> Sequence[tuple[Any | None, Any | None]] | None:
        return self._changes[since:] if len(self._changes) - since <= self._known else None

    def get(self, resource: str, namespace: str, name: str) -> Any | None:
        raise NotImplementedError

    def having(self, resource: str, field: str, value: str, namespace: str | None = None) -> Sequence[Any]:
        raise NotImplementedError


WRITES = st.tuples(st.sampled_from("abcd"), st.none() | st.frozensets(st.integers(1, 6)), st.booleans())


@given(st.lists(WRITES, max_size=40), st.integers(0, 5))
def test_what_is_held_is_what_a_look_at_all_objects_finds(writes: list[tuple[str, Any, bool]], known: int) -> None:
    reader = Kept(known)
    holdings = Holdings(reader, "services", lambda numbers: numbers)
    for name, numbers, is_asked in writes:
        if name in reader.objects or numbers is not None:
            reader.put(name, numbers)
        if is_asked:
            assert set(holdings.now()) == set().union(*reader.objects.values())


def test_all_objects_are_looked_at_only_once() -> None:
    reader = Kept(known=10)
    holdings = Holdings(reader, "services", lambda numbers: numbers)
    for number in range(1000):
        reader.put(f"s{number}", frozenset({number}))
        assert number in holdings.now()
    assert reader.listed == 1
