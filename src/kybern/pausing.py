"""Where long computations may be interrupted: `pause()`, between two steps of one, lets others run when it is time.

Said by whatever walks through what a client sent: expressions, patches, validation, YAML. Who decides is the
`Pausable` that the computation runs in (apiserver/slices); outside of one nothing happens, in a hundred nanoseconds.
A computation that pauses must not rely on what others may change meanwhile.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import Final, TypeVar

import greenlet

T = TypeVar("T")
# Small things are done before anybody else would have noticed.
_FEW: Final = 16


class Pausable(greenlet.greenlet):
    """A stack of its own, which can be left in the middle of a computation and taken up again."""

    def pause(self) -> None:
        """Let others run, if it is time."""
        raise NotImplementedError


_current = greenlet.getcurrent


def pause() -> None:
    """Here the computation may be interrupted."""
    current = _current()
    if isinstance(current, Pausable):
        current.pause()


def pausing(items: Collection[T]) -> Iterable[T]:
    """The items; where there are many, the computation may be interrupted between them."""
    return items if len(items) < _FEW else _interrupted(items)


def _interrupted(items: Collection[T]) -> Iterator[T]:
    for number, item in enumerate(items):
        if not number % _FEW:
            pause()
        yield item
