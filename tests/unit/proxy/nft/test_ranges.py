"""Numbers of the endpoints map: who has which, and what changes."""

import random

import pytest

from kybern.proxy.endpoints import Target
from kybern.proxy.nft import ranges
from kybern.proxy.nft.ranges import Ranges


def targets(*numbers: int) -> tuple[Target, ...]:
    return tuple(Target(f"10.0.0.{n}", 80) for n in numbers)


def test_an_endpoint_that_comes_last_adds_one_element() -> None:
    allocation = Ranges()
    start = allocation.assign("a", targets(1, 2, 3))
    allocation.take()
    assert allocation.assign("a", targets(1, 2, 3, 4)) == start
    assert allocation.take() == ([], [(start + 3, Target("10.0.0.4", 80))])


def test_numbers_that_are_free_are_given_out_again_with_the_next_change() -> None:
    allocation = Ranges()
    first = allocation.assign("a", targets(1, 2))
    allocation.take()
    allocation.release("a")
    assert allocation.assign("b", targets(3, 4)) != first, "a packet may still be on its way by the old rule"
    allocation.take()
    assert allocation.assign("c", targets(5, 6)) == first


def test_spent_numbers_are_an_error() -> None:
    allocation = Ranges()
    allocation._next = ranges.LARGEST - 1
    allocation.assign("a", targets(1))
    with pytest.raises(OverflowError):
        allocation.assign("b", targets(1))


@pytest.mark.parametrize("seed", range(20))
def test_the_map_always_holds_what_every_chain_draws_from(seed: int) -> None:
    rng = random.Random(seed)
    allocation, held, wanted = Ranges(), {}, {}
    for _ in range(200):
        name = rng.choice("abcdef")
        if rng.random() < 0.2:
            allocation.release(name)
            wanted.pop(name, None)
        else:
            chosen = targets(*rng.sample(range(200), rng.randrange(1, 20)))
            wanted[name] = (allocation.assign(name, chosen), chosen)
        removed, added = allocation.take()
        for number in removed:
            del held[number]
        for number, target in added:
            assert number not in held
            held[number] = target
        assert held == {start + i: t for start, chosen in wanted.values() for i, t in enumerate(chosen)}
