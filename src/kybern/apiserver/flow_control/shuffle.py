"""Deal a flow its hand: the few queues, of many, that its requests may wait in. Pure.

Called by queues. Two flows share their whole hand very rarely, so a flow that floods its queues leaves others a free
one. Source: KEP-1040, "Shuffle sharding".
"""

from __future__ import annotations

import functools
import hashlib


def fingerprint(schema: str, flow: str) -> int:
    """64 bits of a flow. The parts are told apart by a length: no user can name himself into another's flow."""
    digest = hashlib.sha256(f"{len(schema)},{schema},{flow}".encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8], "little")


@functools.lru_cache(maxsize=65536)  # a flow a node
def deal(value: int, queues: int, hand: int) -> tuple[int, ...]:
    """`hand` different numbers below `queues`, taken from `value` as cards from a deck."""
    cards: list[int] = []
    for taken in range(hand):
        value, card = divmod(value, queues - taken)
        # `card` counts the cards that are still in the deck.
        for earlier in sorted(cards):
            if earlier <= card:
                card += 1
        cards.append(card)
    return tuple(cards)
