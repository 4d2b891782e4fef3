"""Histories that one register explains, and such that none does."""

from __future__ import annotations

import math
import random

from kybern.testing.linearize import Kind, Operation, Outcome, is_linearizable


def op(called: float, returned: float, kind: Kind, outcome: Outcome, **more: object) -> Operation:
    return Operation(called, returned, kind, outcome, **more)  # type: ignore[arg-type]


CREATED = op(0, 1, "create", "done", value="a", revision=5)


def test_reads_after_a_write_see_it() -> None:
    assert is_linearizable([CREATED, op(2, 3, "get", "found", seen=("a", 5))])
    assert not is_linearizable([CREATED, op(2, 3, "get", "nothing")])


def test_reads_beside_a_write_see_either_but_never_go_back() -> None:
    write = op(2, 6, "update", "done", value="b", expected=5, revision=6)
    new, old = ("b", 6), ("a", 5)
    assert is_linearizable([CREATED, write, op(3, 4, "get", "found", seen=old), op(4.5, 5, "get", "found", seen=new)])
    assert not is_linearizable(
        [CREATED, write, op(3, 4, "get", "found", seen=new), op(4.5, 5, "get", "found", seen=old)]
    )


def test_of_two_conditional_updates_one_wins() -> None:
    one = op(2, 4, "update", "done", value="b", expected=5, revision=6)
    two = op(2, 4, "update", "done", value="c", expected=5, revision=7)
    assert not is_linearizable([CREATED, one, two])
    assert is_linearizable([CREATED, one, op(2, 4, "update", "mismatch", value="c", expected=5, seen=("b", 6))])


def test_what_is_unknown_may_have_been_done_or_not_also_later() -> None:
    lost = op(2, math.inf, "update", "unknown", value="b", expected=5)
    for seen in (("a", 5), ("b", 9)):
        assert is_linearizable([CREATED, lost, op(10, 11, "get", "found", seen=seen)])
    assert not is_linearizable(
        [CREATED, lost, op(10, 11, "get", "found", seen=("b", 9)), op(12, 13, "get", "found", seen=("a", 5))]
    )
    assert not is_linearizable([CREATED, lost, op(10, 11, "get", "found", seen=("c", 9))])


def test_a_deleted_key_is_made_anew() -> None:
    gone = op(2, 3, "delete", "done", expected=5, revision=6)
    assert is_linearizable([CREATED, gone, op(4, 5, "create", "done", value="z", revision=7)])
    assert is_linearizable([CREATED, gone, op(4, 5, "update", "missing", value="z", expected=5)])
    assert not is_linearizable([CREATED, op(4, 5, "create", "done", value="z", revision=7)])
    assert not is_linearizable([CREATED, gone, op(4, 5, "create", "exists", value="z", seen=("a", 5))])


def test_refusals_and_deletes_of_an_api_server_tell_no_revision() -> None:
    gone = op(2, 3, "delete", "done", expected=5)
    assert is_linearizable([CREATED, gone, op(4, 5, "get", "nothing")])
    assert not is_linearizable([CREATED, op(2, 3, "delete", "done", expected=4)])
    assert not is_linearizable([CREATED, op(2, 3, "update", "done", value="b", expected=5)])
    assert is_linearizable([CREATED, op(2, 3, "create", "exists"), op(2, 3, "update", "mismatch", expected=4)])
    assert not is_linearizable([CREATED, op(2, 3, "update", "mismatch", expected=5)])
    assert not is_linearizable([CREATED, gone, op(4, 5, "create", "exists")])
    assert not is_linearizable([CREATED, op(2, 3, "get", "found")])


def test_long_histories_of_a_real_register_pass_and_a_lost_write_is_found() -> None:
    rng = random.Random(3)
    history: list[Operation] = []
    state: tuple[str, int] | None = None
    for number in range(200):
        at = number * 1.0
        spread = rng.random() * 3  # calls overlap
        if state is None:
            state = (f"v{number}", number + 1)
            history.append(op(at - spread, at + spread, "create", "done", value=state[0], revision=state[1]))
        elif rng.random() < 0.4:
            history.append(op(at - spread, at + spread, "get", "found", seen=state))
        elif rng.random() < 0.2:
            history.append(op(at - spread, at + spread, "delete", "done", expected=state[1], revision=number + 1))
            state = None
        else:
            new = (f"v{number}", number + 1)
            history.append(
                op(at - spread, at + spread, "update", "done", value=new[0], expected=state[1], revision=new[1])
            )
            state = new
    assert is_linearizable(history)
    lost = next(i for i, o in enumerate(history) if i > 100 and o.kind == "update")
    assert not is_linearizable(history[:lost] + history[lost + 1 :])
