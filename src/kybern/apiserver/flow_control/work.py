"""How many seats a request takes: lists by the bytes they make the server send, writes by the watches they wake.

Called by control for each request that is not exempt. Pure. Numbers are those of a v1.36 server, by its
apiserver_flowcontrol_work_estimated_seats.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

BYTES_OF_A_SEAT = 100_000
WATCHES_OF_A_SEAT = 10
MOST_SEATS = 10
MOST_OF_A_LEVEL = 0.15
GUESS = 0.003  # seconds a request is thought to take until it has
NOTIFYING_SECONDS = 0.005  # that a seat's watches keep the server busy after a write


@dataclass(frozen=True, slots=True)
class Work:
    """Seats while the request runs, then seats for some seconds more."""

    seats: int = 1
    final_seats: int = 0
    extra: float = 0.0  # seconds
    most: int = field(init=False)  # seats at any time
    guess: float = field(init=False)  # seat-seconds, as long as nobody knows how long it runs

    def __post_init__(self) -> None:
        object.__setattr__(self, "most", max(self.seats, self.final_seats))
        object.__setattr__(self, "guess", self.seats * GUESS + self.final_seats * self.extra)


ONE = Work()


def most_seats(nominal: int) -> int:
    """What one request of a level may take at most."""
    return max(1, min(MOST_SEATS, math.ceil(nominal * MOST_OF_A_LEVEL)))


def of_list(size: int, count: int, limit: int, most: int) -> int:
    """Seats of a list over `count` objects of `size` bytes together, of which at most `limit` (0: all) are sent."""
    if limit and count > limit:
        size = size * limit // count
    return min(most, size // BYTES_OF_A_SEAT + 1)


def of_write(watches: int, most: int) -> Work:
    """A write that `watches` are told of."""
    if watches < WATCHES_OF_A_SEAT:
        return ONE
    wanted = -(-watches // WATCHES_OF_A_SEAT)
    seats = min(wanted, most)
    # Fewer seats are needed for longer.
    return Work(1, seats, NOTIFYING_SECONDS * wanted / seats)
