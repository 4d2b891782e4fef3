"""Is a history of operations on one key what a single, atomic register could have answered? Pure.

The search is Wing and Gong's, with Lowe's memory of what was tried. An operation takes effect at one moment between its
call and its return; one whose outcome is unknown takes effect at some moment after its call, or never.
Used by tools/linearize over histories of a real store, by tools/partitions over those of API servers.
"""

from __future__ import annotations

import collections
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

Kind = Literal["create", "update", "delete", "get"]
Outcome = Literal["done", "exists", "mismatch", "missing", "found", "nothing", "unknown"]

ANY = -1  # a revision that nobody was told


@dataclass(frozen=True, slots=True)
class Operation:
    """One call. Times are of one clock; `returned` is infinite while nobody knows."""

    called: float
    returned: float
    kind: Kind
    outcome: Outcome
    value: str = ""  # that was to be written
    expected: int = 0  # revision asked for by update and delete
    revision: int = 0  # of the write that was done; 0 where a delete was answered without one
    seen: tuple[str, int] | None = None  # value and revision that a read told, or a refusal (which need not tell)


@dataclass
class Trial:
    """One run of a tool: what clients did, by key, and what was done to the servers meanwhile."""

    seed: int
    histories: dict[str, list[Operation]] = field(default_factory=lambda: collections.defaultdict(list))
    nemesis: list[str] = field(default_factory=list)

    @property
    def operations(self) -> list[Operation]:
        return [operation for history in self.histories.values() for operation in history]

    @property
    def answered(self) -> float:
        operations = self.operations
        return sum(o.outcome != "unknown" for o in operations) / max(1, len(operations))


State = tuple[str, int] | None
"""Value and revision of the key; None: there is none."""


def is_linearizable(history: Sequence[Operation]) -> bool:
    """Whether some order explains all that was answered."""
    operations = sorted(history, key=lambda o: (o.called, o.returned))
    known = [i for i, o in enumerate(operations) if o.outcome != "unknown"]
    all_known = sum(1 << i for i in known)
    tried: set[tuple[int, State]] = set()
    stack: list[tuple[int, State]] = [(0, None)]
    while stack:
        done, state = stack.pop()
        if done & all_known == all_known:
            return True
        if (done, state) in tried:
            continue
        tried.add((done, state))
        # What may come next was called before the first return that is still due.
        due = min((o.returned for i, o in enumerate(operations) if not done >> i & 1), default=math.inf)
        for i, operation in enumerate(operations):
            if operation.called > due:
                break
            if done >> i & 1:
                continue
            for after in _effects(state, operation):
                stack.append((done | 1 << i, after))
    return False


def _effects(state: State, operation: Operation) -> list[State]:
    """The states that the operation may leave, if its answer fits `state`."""
    match operation.outcome:
        case "done":
            return _done(state, operation)
        case "unknown":
            return _unknown(state, operation)
        case "nothing" | "missing":
            return [None] if state is None else []
        case _:  # found, exists, mismatch: what was seen is what was there
            return _seen(state, operation)


def _done(state: State, operation: Operation) -> list[State]:
    if operation.kind == "create":
        return [(operation.value, operation.revision)] if state is None else []
    if state is None or state[1] not in (operation.expected, ANY):
        return []
    if operation.revision <= operation.expected and (operation.kind != "delete" or operation.revision):
        return []
    return [None] if operation.kind == "delete" else [(operation.value, operation.revision)]


def _unknown(state: State, operation: Operation) -> list[State]:
    """Done, with a revision that was not told. That it was never done is told by never choosing it."""
    if operation.kind == "create":
        return [(operation.value, ANY)] if state is None else []
    if operation.kind == "get" or state is None or state[1] not in (operation.expected, ANY):
        return []
    return [None] if operation.kind == "delete" else [(operation.value, ANY)]


def _seen(state: State, operation: Operation) -> list[State]:
    seen = operation.seen
    if state is None:
        return []
    if seen is None:  # a refusal over HTTP says no more than that
        is_refused = operation.outcome == "exists" or state[1] != operation.expected
        return [state] if is_refused and operation.outcome != "found" else []
    if state[0] != seen[0] or state[1] not in (seen[1], ANY):
        return []
    if operation.outcome == "mismatch" and seen[1] == operation.expected:
        return []
    return [seen]
